"""The decoder's own promises: caches, masks and padding change nothing, half precision attends alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_files import random_llama

from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.llama.attention import attend, rotary_tables, rotate
from mm_adapter.llama.model import RMSNorm


def tokens_of(model: Llama, batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, model.config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(5))


@settings(deadline=None, max_examples=15)
@given(cuts=st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_any_chunking_with_a_cache_equals_one_pass(plain_llama: Llama, cuts: list[int]) -> None:
    """Prefill, single steps and chunks in the middle all continue the same sequence."""
    tokens = tokens_of(plain_llama, 2, sum(cuts))
    cache = plain_llama.new_cache(2, sum(cuts))
    pieces = [plain_llama(chunk, cache=cache) for chunk in tokens.split(cuts, dim=1)]
    assert cache.length == sum(cuts)
    whole = plain_llama(tokens)
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < 1e-5 * whole.abs().max()


def test_left_padding_changes_nothing(plain_llama: Llama) -> None:
    """With a mask and shifted positions a padded row gives what it gives alone."""
    tokens = tokens_of(plain_llama, 1, 6)
    padded = torch.cat((torch.zeros(1, 3, dtype=torch.long), tokens), dim=1)
    positions = (torch.arange(9) - 3).clamp(min=0)[None]
    mask = (torch.ones(9, 9, dtype=torch.bool).tril() & (torch.arange(9) >= 3)) | torch.eye(9, dtype=torch.bool)
    found = plain_llama(padded, positions=positions, mask=mask[None, None])[:, 3:]
    assert (found - plain_llama(tokens)).abs().max() < 1e-5


def test_later_tokens_are_not_seen(plain_llama: Llama) -> None:
    """Logits of a position depend on no later token."""
    tokens = tokens_of(plain_llama, 1, 8)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % plain_llama.config.vocab_size
    first, second = plain_llama(tokens), plain_llama(changed)
    assert torch.equal(first[:, :5], second[:, :5])
    assert not torch.allclose(first[:, 5:], second[:, 5:])


def test_layers_can_be_run_in_parts(plain_llama: Llama) -> None:
    """Stopping at a layer and going on gives what one run gives."""
    tokens = tokens_of(plain_llama, 2, 5)
    embedded, positions = plain_llama.embedding(tokens), torch.arange(5)
    half = plain_llama.run_layers(embedded, positions, last=1)
    rest = plain_llama.run_layers(half, positions, first=1)
    assert torch.equal(plain_llama.logits(rest), plain_llama(tokens))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_attention(dtype: torch.dtype, masked: bool, causal: bool) -> None:
    """The unfused kernel for half precision on the CPU computes what the fused one computes in float32."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 6, 5, 8, generator=generator).to(dtype)
    keys, values = (torch.randn(2, 2, 5, 8, generator=generator).to(dtype) for _ in range(2))
    mask = None
    if masked:
        mask = (torch.rand(2, 1, 5, 5, generator=generator) > 0.3) | torch.eye(5, dtype=torch.bool)
        causal = False
    found = attend(queries, keys, values, mask, causal)
    expected = attend(queries.float(), keys.float(), values.float(), mask, causal)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < 0.03


def test_rotation_depends_on_distance_only() -> None:
    """Scores of rotated queries and keys are the same wherever the pair stands."""
    frequencies = torch.tensor([1.0, 0.1, 0.01])
    queries, keys = torch.randn(1, 1, 1, 6), torch.randn(1, 1, 1, 6)

    def score(at: int) -> torch.Tensor:
        here = rotate(queries, rotary_tables(torch.tensor([at + 3]), frequencies, torch.float32))
        there = rotate(keys, rotary_tables(torch.tensor([at]), frequencies, torch.float32))
        return (here * there).sum()

    assert torch.allclose(score(0), score(50), atol=1e-4)


@pytest.mark.parametrize("positions", [torch.arange(4), torch.tensor([[0, 1, 2, 3], [7, 9, 2, 0]])])
def test_rotation_has_derivatives(positions: torch.Tensor) -> None:
    """First and second ones, by finite differences, with positions of all rows or of each."""
    tables = rotary_tables(positions, torch.tensor([1.0, 0.1, 0.01]), torch.float64)
    heads = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: rotate(given, tables), heads)
    assert torch.autograd.gradgradcheck(lambda given: rotate(given, tables), heads)


def test_head_width_of_its_own() -> None:
    """A head need not be D / H wide."""
    model = random_llama(head_dim=24)
    assert model(tokens_of(model, 1, 4)).shape == (1, 4, 320)


def test_the_configuration_is_frozen(tiny_config: LlamaConfig) -> None:
    """A model's shape cannot change under it."""
    with pytest.raises(AttributeError):
        tiny_config.num_layers = 5  # type: ignore[misc]


def test_the_last_layer_computes_only_what_is_wanted(tiny_llama: Llama) -> None:
    """Chosen positions come out as they do among all, in the order asked for."""
    tokens = torch.randint(0, 300, (2, 7), generator=torch.Generator().manual_seed(0))
    embedded, positions, wanted = tiny_llama.embedding(tokens), torch.arange(7), torch.tensor([6, 1, 3])
    everything = tiny_llama.run_layers(embedded, positions)
    found = tiny_llama.run_layers(embedded, positions, wanted=wanted)
    assert found.shape == (2, 3, everything.shape[-1])
    assert (found - everything[:, wanted]).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalisation_and_its_gradients_are_those_of_the_formula(dtype: torch.dtype) -> None:
    """The step written by hand equals what autograd makes of the equation, also for a trained weight."""
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(16, 1e-5).to(dtype)
    norm.weight.data = torch.randn(16, generator=generator).to(dtype)
    states, upstream = (torch.randn(2, 3, 16, generator=generator).to(dtype) for _ in range(2))
    ours, plain = states.clone().requires_grad_(True), states.double().requires_grad_(True)
    weight = norm.weight.detach().double().requires_grad_(True)
    found = norm(ours)
    expected = plain * torch.rsqrt(plain.pow(2).mean(-1, keepdim=True) + 1e-5) * weight
    (found * upstream).sum().backward()
    (expected * upstream.double()).sum().backward()
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    for a, b in ((found, expected), (ours.grad, plain.grad), (norm.weight.grad, weight.grad)):
        assert (a.double() - b).abs().max() < tolerance
