"""LLaMA-Adapter V2 as a method of training: biases, scales and norms besides the prompts, in one stage or in two."""

import json

import pytest
import torch

from mm_adapter.core.errors import UserError
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.config import TrainingConfig

V2 = {"method": "adapter-v2", "epochs": 6.0, "batch_size": 12, "base_lr": 0.5, "eval_every": 6.0}


def losses(trainer):
    lines = map(json.loads, trainer.log.path.read_text().splitlines())
    return [event["loss"] for event in lines if "loss" in event]


@pytest.mark.parametrize("kind", ["none", "shared", "tiles", "query"])
def test_it_begins_as_the_base_and_learns_in_every_layer(make_trainer, tiny_base, kind):
    """Bit for bit the base at the start, norms included; then every kind of weight moves, and the base does not."""
    pictures = {} if kind == "none" else {"pictures": True, "image_prompts": kind, "query_width": 8}
    trainer = make_trainer(**V2, **pictures)
    tokens = torch.arange(20)[None]
    before = {name: tensor.clone() for name, tensor in tiny_base.model.state_dict().items()}
    assert torch.equal(trainer.model(tokens), tiny_base.model(tokens))
    start = {name: tensor.clone() for name, tensor in trainer.trained.state_dict().items()}
    trainer.run()
    assert losses(trainer)[-1] < losses(trainer)[0]
    # Query biases and the like of every layer, down to the first; a key's bias would change no softmax.
    still = {name for name, tensor in trainer.trained.state_dict().items() if torch.equal(tensor, start[name])}
    assert still == set()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_base.model.state_dict().items())
    assert trainer.cache is None or not trainer.cache.rows  # no layer is the base model's own any more


def test_what_was_saved_answers_alike(make_trainer, tiny_folder):
    """Loaded on the untouched base, it scores as the model in memory does."""
    trainer = make_trainer(**V2)
    trainer.run()
    trainer.model.save_pretrained(trainer.folder)
    loaded = MultimodalLlama.from_pretrained(adapter=trainer.folder)
    tokens = torch.arange(20)[None]
    assert torch.equal(loaded(tokens), trainer.model(tokens))
    assert loaded.answer("Why?", choices=["a", "b"]) == trainer.model.answer("Why?", choices=["a", "b"])


def test_two_stages(make_trainer):
    """The first moves what sees and the gates, the second the rest, from where the first has ended."""
    first = make_trainer(folder="first", stage="vision", pictures=True, **{**V2, "vision": "efficientnet-lite0"})
    start = {name: tensor.clone() for name, tensor in first.trained.state_dict().items()}
    first.run()
    moved = {name for name, tensor in first.trained.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved == {name for name in start if name.startswith(("gates", "projection"))}
    first.model.vision, first.model.vision_fingerprint = None, None
    first.model.save_pretrained(first.folder)
    ended = {name: tensor.clone() for name, tensor in first.trained.state_dict().items()}
    second = make_trainer(folder="second", stage="language", pictures=True, start_from=str(first.folder), **V2)
    assert all(torch.equal(tensor, ended[name]) for name, tensor in second.trained.state_dict().items())
    second.run()
    moved = {name for name, tensor in second.trained.state_dict().items() if not torch.equal(tensor, ended[name])}
    assert moved == {name for name in start if not name.startswith("projection")}


def test_another_shape_cannot_be_started_from(make_trainer):
    """What differs is named."""
    first = make_trainer(folder="first", **V2)
    first.model.save_pretrained(first.folder)
    with pytest.raises(UserError, match="its prompt_length is 3, that of the adapter to be trained 4"):
        make_trainer(folder="second", start_from=str(first.folder), **{**V2, "prompt_length": 4})
    with pytest.raises(UserError, match="does not exist"):
        make_trainer(folder="third", start_from=str(first.folder / "nowhere"), **V2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "adapter-v2", "sharding": "full"}, "leave it out"),
        ({"method": "lora", "vision": "none", "stage": "vision"}, "stage and start_from are of adapters"),
        ({"stage": "vision", "vision": "none"}, "name an image tower"),
        ({"attention": "random-init", "image_prompts": "tiles"}, "use attention zero-init"),
    ],
)
def test_settings_that_exclude_each_other(values, message):
    """Refused before anything is loaded."""
    with pytest.raises(UserError, match=message):
        TrainingConfig(**values)
