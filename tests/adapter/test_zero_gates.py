"""At zero gates the adapted model is the base model, bit for bit."""

from collections.abc import Callable

import pytest
import torch
from adapter_kinds import KINDS, as_seen
from torch import Tensor

from mm_adapter.adapter import Adapter
from mm_adapter.inference.generation import generate_tokens
from mm_adapter.llama import Llama

Batch = tuple[Tensor, Tensor, Tensor]
GATED = [kind for kind in KINDS if kind != "joined"]


@pytest.mark.parametrize("kind", GATED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pictures", ["none", "all", "mixed"])
def test_logits_are_the_base_models(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, dtype: torch.dtype, pictures: str, kind: str
) -> None:
    """With and without pictures and mixed, in every dtype, on a grouped-query model."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    llama, adapter = tiny_llama.to(dtype), make_adapter(trained=False, **KINDS[kind])
    image = None if pictures == "none" else features
    prefixes = adapter.prefixes(llama, image, has_image if pictures == "mixed" else None)
    assert torch.equal(llama(tokens, prefixes=prefixes), llama(tokens))


@pytest.mark.parametrize("kind", GATED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cached_logits_are_the_base_models(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, dtype: torch.dtype, kind: str
) -> None:
    """Prefill, single steps and chunks from a cache as well."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    llama = tiny_llama.to(dtype)
    prefixes = make_adapter(trained=False, **KINDS[kind]).prefixes(llama, features, has_image)
    with_adapter, without = llama.new_cache(4, 9), llama.new_cache(4, 9)
    for chunk in tokens.split([4, 1, 1, 3], dim=1):
        assert torch.equal(llama(chunk, prefixes=prefixes, cache=with_adapter), llama(chunk, cache=without))


@pytest.mark.parametrize("kind", GATED)
def test_generated_text_is_the_base_models(
    tiny_llama: Llama, make_adapter: Callable[..., Adapter], batch: Batch, kind: str
) -> None:
    """Batched generation of prompts of different lengths writes the same ids; a trained gate writes others."""
    tokens, features, has_image = batch
    features = as_seen(features, kind)
    for layer in tiny_llama.layers:
        for weight in layer.parameters():
            weight.mul_(3)  # so that the layers, not the tied embedding alone, choose the next token
    prompts = [row[: 3 + index].tolist() for index, row in enumerate(tokens)]
    base = generate_tokens(tiny_llama, prompts, end=-1, max_new_tokens=8)
    untrained = make_adapter(trained=False, **KINDS[kind]).prefixes(tiny_llama, features, has_image)
    assert generate_tokens(tiny_llama, prompts, -1, untrained, max_new_tokens=8) == base
    trained = make_adapter(trained=True, **KINDS[kind]).prefixes(tiny_llama, features, has_image)
    assert generate_tokens(tiny_llama, prompts, -1, trained, max_new_tokens=8) != base
