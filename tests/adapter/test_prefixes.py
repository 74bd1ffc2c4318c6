"""Gated and joined attention equal the paper's formulation, written again without any of the package's shortcuts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from adapter_kinds import KINDS, as_seen
from naive_llama import naive_logits
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.attention import GatedPrefix, JoinedPrefix
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama, LlamaConfig

Batch = tuple[Tensor, Tensor, Tensor]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biased", [False, True])
def test_a_mixed_batch_equals_the_naive_formulation(
    tiny_llama: Llama, biased_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, kind: str, biased: bool
) -> None:
    """Every sample of a batch with and without pictures is what the paper's equations give for it alone."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    llama, adapter = biased_llama if biased else tiny_llama, make_adapter(**KINDS[kind])
    logits = llama(tokens, prefixes=adapter.prefixes(llama, features, has_image))
    for row in range(4):
        expected = naive_logits(llama, tokens[row], adapter, features[row] if has_image[row] else None)
        assert (logits[row] - expected).abs().max() < 1e-5
    assert (logits - llama(tokens)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_the_naive_formulation(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, kind: str
) -> None:
    """The shortcuts change no gradient either."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    gradients = []
    for naive in (False, True):
        adapter = make_adapter(**KINDS[kind])
        if naive:
            rows = [
                naive_logits(tiny_llama, tokens[i], adapter, features[i] if has_image[i] else None) for i in range(4)
            ]
            logits = torch.stack(rows)
        else:
            logits = tiny_llama(tokens, prefixes=adapter.prefixes(tiny_llama, features, has_image))
        logits.log_softmax(-1)[:, :, 7].mean().backward()
        gradients.append({name: tensor.grad for name, tensor in adapter.named_parameters()})
    for name, found in gradients[0].items():
        assert (found - gradients[1][name]).abs().max() < 1e-5, name
        assert found.abs().max() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_changes_nothing(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, kind: str
) -> None:
    """Prefill, single steps and chunks give what one pass gives."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    prefixes = make_adapter(**KINDS[kind]).prefixes(tiny_llama, features, has_image)
    cache = tiny_llama.new_cache(4, 9)
    pieces = [tiny_llama(chunk, prefixes=prefixes, cache=cache) for chunk in tokens.split([4, 1, 1, 3], dim=1)]
    assert (torch.cat(pieces, dim=1) - tiny_llama(tokens, prefixes=prefixes)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_changes_only_what_it_hides(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, kind: str
) -> None:
    """An explicit causal mask is the plain causal attention; hidden padding on the left is not seen."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    prefixes = make_adapter(**KINDS[kind]).prefixes(tiny_llama, features, has_image)
    plain = tiny_llama(tokens, prefixes=prefixes)
    causal = torch.ones(9, 9, dtype=torch.bool).tril()[None, None]
    assert (tiny_llama(tokens, mask=causal, prefixes=prefixes) - plain).abs().max() < 1e-5
    padded = torch.cat((torch.zeros(4, 2, dtype=torch.long), tokens), dim=1)
    positions = (torch.arange(11) - 2).clamp(min=0)
    mask = (torch.ones(11, 11, dtype=torch.bool).tril() & (torch.arange(11) >= 2)) | torch.eye(11, dtype=torch.bool)
    shifted = tiny_llama(padded, positions=positions, mask=mask[None, None], prefixes=prefixes)[:, 2:]
    assert (shifted - plain).abs().max() < 1e-5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("new", [1, 3, 6])
def test_joined_attention_is_one_softmax(masked: bool, new: int) -> None:
    """Prompt keys are further keys of the ordinary softmax, visible to every query whatever the mask hides."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 4, new, 8, generator=generator)
    keys, values = (torch.randn(2, 2, 6, 8, generator=generator) for _ in range(2))
    prompt_keys, prompt_values = (torch.randn(2, 2, 3, 8, generator=generator) for _ in range(2))
    allowed = torch.ones(2, 1, new, 6, dtype=torch.bool).tril(6 - new)
    if masked:
        allowed &= torch.rand(2, 1, new, 6, generator=generator) > 0.3
    mask = allowed if masked else None
    found = JoinedPrefix(prompt_keys, prompt_values).attend(queries, keys, values, mask, causal=new > 1)
    all_keys = torch.cat((prompt_keys, keys), dim=2).repeat_interleave(2, 1)
    all_values = torch.cat((prompt_values, values), dim=2).repeat_interleave(2, 1)
    scores = queries @ all_keys.transpose(2, 3) / 8**0.5
    scores[..., 3:] = scores[..., 3:].masked_fill(~allowed, float("-inf"))
    assert (found - scores.softmax(-1) @ all_values).abs().max() < 1e-5


def test_gate_is_squashed_by_head(tiny_llama: Llama) -> None:
    """A head's share of the prompts is tanh of its own gate: bounded, signed, the others untouched."""
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(1, 2, 1, 4, generator=generator) for _ in range(3))
    prompts = torch.randn(1, 2, 1, 4, generator=generator)
    found = GatedPrefix(prompts, prompts, torch.tensor([0.0, -50.0])).attend(queries, keys, values, None, False)
    assert torch.equal(found[:, 0], values[:, 0])
    assert torch.allclose(found[:, 1], values[:, 1] - prompts[:, 1])


def test_a_gate_that_is_not_squashed(tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch) -> None:
    """Adapters of other projects multiply by the gate itself, pictures or not: tanh taken ahead is the same."""
    tokens, features, has_image = batch
    squashed, plain = make_adapter(), make_adapter(gate_activation="none")
    assert squashed.gates is not None
    assert plain.gates is not None
    untouched = tiny_llama(tokens, prefixes=plain.prefixes(tiny_llama, features, has_image))
    with torch.no_grad():
        plain.gates.copy_(squashed.gates.tanh())
    expected = tiny_llama(tokens, prefixes=squashed.prefixes(tiny_llama, features, has_image))
    found = tiny_llama(tokens, prefixes=plain.prefixes(tiny_llama, features, has_image))
    assert (found - expected).abs().max() < 1e-6
    assert (untouched - expected).abs().max() > 1e-3


def test_samples_without_picture_in_a_mixed_batch_are_text_only(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch
) -> None:
    """Whatever stands in the feature row of a sample without picture has no effect on it."""
    tokens, features, has_image = batch
    adapter = make_adapter()
    mixed = tiny_llama(tokens, prefixes=adapter.prefixes(tiny_llama, features, has_image))
    alone = tiny_llama(tokens, prefixes=adapter.prefixes(tiny_llama))
    assert (mixed[~has_image] - alone[~has_image]).abs().max() < 1e-5
    assert (mixed[has_image] - alone[has_image]).abs().max() > 1e-3
    noisy = torch.where(has_image[:, None], features, torch.full_like(features, 77.0))
    again = tiny_llama(tokens, prefixes=adapter.prefixes(tiny_llama, noisy, has_image))
    assert torch.equal(again[~has_image], mixed[~has_image])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_adapter_alone(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, kind: str
) -> None:
    """Every adapter parameter learns, none of the base does, and no graph exists below the first adapted layer."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    adapter = make_adapter(layers=2, **KINDS[kind])
    on_graph = []
    for layer in tiny_llama.layers:
        layer.register_forward_hook(lambda module, inputs, output: on_graph.append(output.requires_grad))
    tiny_llama(tokens, prefixes=adapter.prefixes(tiny_llama, features, has_image)).square().mean().backward()
    assert on_graph == [False, False, True, True]
    assert all(tensor.grad is not None and tensor.grad.abs().max() > 0 for tensor in adapter.parameters())
    assert all(tensor.grad is None for tensor in tiny_llama.parameters())


def test_gates_learn_from_zero(tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch) -> None:
    """At the start the gates alone have a gradient: the prompts follow once a gate has opened."""
    adapter = make_adapter(trained=False)
    tiny_llama(batch[0], prefixes=adapter.prefixes(tiny_llama, batch[1])).square().mean().backward()
    assert adapter.gates is not None
    assert adapter.gates.grad is not None
    assert adapter.prompts.grad is not None
    assert adapter.gates.grad.abs().min() > 0
    assert adapter.prompts.grad.abs().max() == 0


def test_parameter_groups_are_disjoint_and_complete(make_adapter: Callable[..., Adapter]) -> None:
    """The optimiser's groups cover every parameter once; kinds that an adapter lacks are left out."""
    adapter = make_adapter()
    groups = adapter.parameter_groups()
    assert list(groups) == ["prompts", "gates", "projection"]
    members = [id(tensor) for group in groups.values() for tensor in group]
    assert sorted(members) == sorted(id(tensor) for tensor in adapter.parameters())
    assert list(make_adapter(attention="random-init", image_size=0).parameter_groups()) == ["prompts"]


def test_a_seed_decides_every_value(tiny_config: LlamaConfig) -> None:
    """Same seed, same adapter, whatever was drawn before; the caller's random state is left alone."""
    config = AdapterConfig(layers=2, image_size=6)
    first = Adapter(config, tiny_config, seed=3).state_dict()
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second = Adapter(config, tiny_config, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["prompts"], Adapter(config, tiny_config, seed=4).state_dict()["prompts"])


def test_size_of_the_paper() -> None:
    """At 7B the adapter has the paper's 1.2 M trained parameters, 1.8 M with a projection, of 6.7 billion in all."""
    shape = LlamaConfig(32000, 4096, 32, 32, 32, 128, 11008)
    with torch.device("meta"):
        llama = Llama(shape).requires_grad_(False)
        text_only, seeing = (Adapter(AdapterConfig(image_size=width), shape) for width in (0, 512))

    def trained(*modules: torch.nn.Module) -> int:
        return sum(tensor.numel() for module in modules for tensor in module.parameters() if tensor.requires_grad)

    assert all(tensor.is_meta for module in (llama, text_only, seeing) for tensor in module.parameters())
    assert trained(llama, text_only) == 30 * 10 * 4096 + 30 * 32 == 1_229_760
    assert seeing.config.bottleneck == 128
    assert trained(llama, seeing) == 1_229_760 + 2 * 512 + (512 + 1) * 128 + (128 + 1) * 4096
    assert round(trained(llama, seeing) / 1e6, 1) == 1.8
    assert sum(tensor.numel() for tensor in llama.parameters()) == 6_738_415_616


def test_pictures_that_do_not_fit(tiny_llama: Llama, make_adapter: Callable[..., Adapter]) -> None:
    """A picture for a text-only adapter, or of another tower's width, is refused."""
    with pytest.raises(UserError, match="text-only"):
        make_adapter(image_size=0).prefixes(tiny_llama, torch.zeros(1, 20))
    with pytest.raises(UserError, match="width 21, the adapter was trained on 20"):
        make_adapter().prefixes(tiny_llama, torch.zeros(1, 21))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 5}, "5 layers, the model has 4"),
        ({"layers": 0}, "positive"),
        ({"prompt_length": 0}, "positive"),
        ({"image_size": -1}, "not negative"),
        ({"attention": "gated"}, "attention 'gated' is not known; zero-init and random-init are"),
        ({"gate_activation": "sigmoid"}, "gate_activation 'sigmoid' is not known; tanh and none are"),
        ({"prompt_heads": "all"}, "prompt_heads 'all' is not known"),
    ],
)
def test_shapes_that_are_refused(make_adapter: Callable[..., Adapter], changes: dict[str, Any], message: str) -> None:
    """An adapter that cannot exist says why."""
    with pytest.raises(UserError, match=message):
        make_adapter(**changes)
