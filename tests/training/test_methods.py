"""LoRA and full fine-tuning, which the adapter is compared with, go through the same loop, files and answers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.config import TrainingConfig


def losses(trainer):
    lines = map(json.loads, trainer.log.path.read_text().splitlines())
    return [event["loss"] for event in lines if "loss" in event]


@pytest.fixture
def fresh_base(tiny_folder, monkeypatch):
    """A base model of the test's own: these methods change it."""
    from mm_adapter.llama.checkpoints.load import load_llama

    return load_llama(str(tiny_folder))


@pytest.mark.parametrize(("method", "rate"), [("lora", 1.5), ("full", 0.1)])
def test_it_learns_and_its_files_answer_alike(make_trainer, fresh_base, method, rate):
    """The loss falls; what was saved, loaded on the untouched base, scores as the model in memory does."""
    trainer = make_trainer(base=fresh_base, method=method, epochs=20.0, batch_size=12, base_lr=rate, eval_every=20.0)
    before = {name: tensor.clone() for name, tensor in fresh_base.model.state_dict().items()}
    trainer.run()
    assert losses(trainer)[-1] < 0.95 * losses(trainer)[0]
    after = fresh_base.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == (set(before) if method == "full" else {name for name in before if "lora_" in name})
    saved = load_file(trainer.folder / "adapter_model.safetensors")
    assert all(("lora_" in name) == (method == "lora") for name in saved)
    loaded = MultimodalLlama.from_pretrained(adapter=trainer.folder)
    tokens = torch.arange(20)[None]
    assert torch.equal(loaded(tokens), trainer.model(tokens))
    assert MultimodalLlama.from_pretrained(adapter=trainer.folder, dtype=torch.bfloat16)(tokens).isfinite().all()
    assert loaded.answer("Why?", choices=["a", "b"]) == trainer.model.answer("Why?", choices=["a", "b"])


def test_full_training_reaches_every_weight(make_trainer, fresh_base):
    """No tensor is left without a gradient, the embedding of the question's words included."""
    trainer = make_trainer(base=fresh_base, method="full", batch_size=12)
    trainer.task.losses(list(range(12)), None).sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in fresh_base.model.parameters())
    embedding = fresh_base.model.embedding.weight
    assert (embedding.grad.abs().sum(dim=1) > 0).sum() > 20


def test_damaged_updates_are_refused(make_trainer, fresh_base):
    """A tensor that is missing or misshapen is named."""
    trainer = make_trainer(base=fresh_base, method="lora")
    trainer.run()
    path = trainer.folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    del tensors[first]
    save_file(tensors, path)
    with pytest.raises(UserError, match=f"{first} has shape none"):
        MultimodalLlama.from_pretrained(adapter=trainer.folder)


def test_what_cannot_be_is_refused(tiny_llama: Llama):
    """Unknown methods, pictures without an adapter, half-precision weights to be trained."""
    with pytest.raises(UserError, match="did you mean 'lora'"):
        TrainingConfig(method="lore")
    with pytest.raises(UserError, match="sees no pictures"):
        TrainingConfig(method="full")
    with pytest.raises(UserError, match="float32"):
        prepare_finetuning(tiny_llama.to(torch.bfloat16), FinetuneConfig("full"))
    with pytest.raises(UserError, match="rank"):
        FinetuneConfig("lora", rank=0)
