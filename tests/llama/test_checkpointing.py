"""Layers that are computed again on the way back: gradients bit for bit, and less that is kept."""

import pytest
import torch
from torch import nn

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import lower_states, score_options


@pytest.fixture
def batch():
    """Three packed questions of different lengths, the second with a long explanation."""
    generator = torch.Generator().manual_seed(0)

    def draw(length):
        return tuple(torch.randint(1, 300, (length,), generator=generator).tolist())

    question = Question(pid="q", question="?", options=("a", "b"), answer=1, context="")
    shapes = ((12, 2, 1), (30, 5, 9), (7, 1, 1))
    members = [EncodedQuestion(question, draw(long), (draw(short), draw(short)), draw(t)) for long, short, t in shapes]
    return collate(members)


def adapter_of(llama, layers, kind):
    tiles = {"image_prompts": "tiles", "image_pieces": (2, 4)} if kind == "tiles" else {"attention": kind}
    adapter = Adapter(AdapterConfig(layers, 4, image_size=6, bottleneck=3, **tiles), llama.config)
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(len(weight)))
    return adapter


def gradients(llama, batch, adapter, states=None):
    """Gradients of a loss on packed options, pictures for two of three."""
    features = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    prefixes = adapter.prefixes(llama, features, torch.tensor([True, False, True]))
    scores = score_options(llama, batch, prefixes, states, adapter.first_layer)
    (scores.ranking_scores("mean").square().sum() + scores.language_loss.sum()).backward()
    return {name: weight.grad for name, weight in adapter.named_parameters()}


@pytest.mark.parametrize("kind", ["zero-init", "random-init", "tiles"])
@pytest.mark.parametrize(("layers", "kept"), [(4, False), (2, False), (2, True)])
def test_same_gradients_bit_for_bit(tiny_llama, batch, kind, layers, kept):
    """Of prompts, gates and projection, packed, with pictures, on all layers and above kept states."""
    adapters = [adapter_of(tiny_llama, layers, kind) for _ in range(2)]
    states = lower_states(tiny_llama, batch, 4 - layers) if kept else None
    expected = gradients(tiny_llama, batch, adapters[0], states)
    tiny_llama.gradient_checkpointing = True
    found = gradients(tiny_llama, batch, adapters[1], states)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert all(weight.abs().sum() > 0 for weight in found.values())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_same_gradients_of_the_models_own_weights(tiny_llama, batch, method):
    """Low-rank updates and whole weights, the embedding among them."""
    if method == "lora":
        pytest.importorskip("peft")
    update = prepare_finetuning(tiny_llama, FinetuneConfig(method))
    found = []
    for checkpoint in (False, True):
        tiny_llama.gradient_checkpointing = checkpoint
        score_options(tiny_llama, batch).language_loss.sum().backward()
        found.append([weight.grad for weight in update.parameters()])
        tiny_llama.zero_grad()
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_little_is_kept(tiny_llama, batch):
    """A graph over checkpointed layers holds a fraction of what it holds otherwise; each layer runs twice for it."""
    runs = []
    tiny_llama.layers[3].register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    adapter = adapter_of(tiny_llama, 4, "zero-init")
    sizes = []
    for checkpoint in (False, True):
        tiny_llama.gradient_checkpointing = checkpoint
        kept: dict[int, int] = {}
        own = {weight.data_ptr() for part in (tiny_llama, adapter) for weight in part.parameters()}

        def pack(tensor, kept=kept, own=own):
            if tensor.untyped_storage().data_ptr() not in own:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            states = nn.functional.embedding(batch.tokens, tiny_llama.embedding.weight)[None]
            out = tiny_llama.run_layers(states, batch.positions, batch.packing, list(adapter.prefixes(tiny_llama)))
        sizes.append(sum(kept.values()))
        out.sum().backward()
    assert sizes[1] < 0.3 * sizes[0]
    assert len(runs) == 1 + 1  # the second run on the way back stops as soon as it has what is missing


def test_without_gradients_nothing_changes(tiny_llama):
    """Answers and generation, caches included, do not go through the checkpoint."""
    tokens = torch.arange(9)[None]
    expected = tiny_llama(tokens)
    tiny_llama.gradient_checkpointing = True
    with torch.no_grad():
        assert torch.equal(tiny_llama(tokens), expected)
    cache = tiny_llama.new_cache(1, 9)
    tiny_llama(tokens[:, :5], cache=cache)
    assert torch.allclose(tiny_llama(tokens[:, 5:], cache=cache), expected[:, 5:], atol=1e-5)
    assert cache.length == 9
