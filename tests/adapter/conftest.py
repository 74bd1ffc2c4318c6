"""Adapters of every kind for the tiny model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.llama import Llama, LlamaConfig

IMAGE_SIZE = 20


@pytest.fixture
def make_adapter(tiny_config: LlamaConfig) -> Callable[..., Adapter]:
    """Build an adapter of three layers; ``trained`` gives it gates that matter."""

    def make(trained: bool = True, **changes: Any) -> Adapter:
        sizes: dict[str, Any] = {"layers": 3, "prompt_length": 5, "image_size": IMAGE_SIZE, "bottleneck": 8}
        adapter = Adapter(AdapterConfig(**(sizes | changes)), tiny_config, seed=1)
        for gates in (adapter.gates, adapter.image_gates):
            if trained and gates is not None:
                with torch.no_grad():
                    gates.copy_(torch.linspace(-1.5, 1.5, gates.numel()).view(gates.shape))
        return adapter

    return make


@pytest.fixture
def batch(tiny_llama: Llama) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens ``(4, 9)``, image features ``(4, F)`` of quite different scales, and who has a picture."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, tiny_llama.config.vocab_size, (4, 9), generator=generator)
    features = torch.randn(4, IMAGE_SIZE, generator=generator) * torch.tensor([1.0, 30.0, 0.1, 5.0])[:, None]
    return tokens, features, torch.tensor([True, False, True, False])


@pytest.fixture
def biased_llama() -> Llama:
    """A model whose projections have a bias, which must not be added twice to prompts with a picture."""
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        num_layers=4,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=80,
        context_length=256,
        attention_bias=True,
    )
    torch.manual_seed(4)
    model = Llama(config)
    for tensor in model.parameters():
        if tensor.ndim == 1:
            torch.nn.init.normal_(tensor, mean=0.5, std=0.5)
    torch.nn.init.normal_(model.embedding.weight, std=0.5)
    return model.requires_grad_(False).eval()
