"""Causal self-attention with rotary embedding, grouped queries, a cache, and room for an adapter's prefix.

Rotary position embedding (RoFormer, arXiv 2104.09864) stands in the half-split layout of Hugging Face.
"""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_adapter.llama.config import LlamaConfig, RopeDivisors, RopeScaling
from mm_adapter.llama.packing import Packing


def rotary_frequencies(config: LlamaConfig) -> Tensor:
    """Return the angle per position of each pair of channels, ``(head_dim / 2,)`` float32."""
    # On the CPU even while the weights are still on the meta device: the table is never read from a file.
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device="cpu").float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    if isinstance(config.rope_scaling, RopeDivisors):
        return frequencies / torch.tensor(config.rope_scaling.divisors, device="cpu")
    return frequencies if config.rope_scaling is None else _stretch(frequencies, config.rope_scaling)


def _stretch(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Divide slow frequencies by the factor, keep fast ones, blend between (Llama 3.1 release, ``apply_scaling``)."""
    turns = float(scaling.original_context_length) * frequencies / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * frequencies / scaling.factor + smooth * frequencies


def rotary_tables(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosine and sine for ``rotate``.

    Args:
        positions: ``(T,)`` or ``(B, T)`` int64.
        frequencies: ``(head_dim / 2,)`` float32.
        dtype: of the result.

    Returns:
        Two tensors ``(1 or B, 1, T, head_dim / 2)``.
    """
    angles = torch.atleast_2d(positions)[:, None, :, None].float() * frequencies  # (1 or B, 1, T, head_dim / 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate ``heads`` ``(B, H, T, head_dim)`` by the angles in ``tables``: channel i with channel i + head_dim / 2."""
    return _Rotated.apply(heads, *tables)


class _Rotated(torch.autograd.Function):
    """Keeps the angles alone, and writes each half once: the gradient is rotated back."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(heads, cosine, sine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return rotate(gradient, (cosine, -sine)), None, None


def _turned(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    result = torch.empty_like(heads)
    (first, second), (left, right) = heads.chunk(2, dim=-1), result.chunk(2, dim=-1)
    # Not fused into one operation: products are rounded before they are added, as in transformers.
    torch.mul(first, cosine, out=left).sub_(second * sine)
    torch.mul(second, cosine, out=right).add_(first * sine)
    return result


Mask = Tensor | Packing | None


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
    """Scaled dot-product attention in which groups of query heads share a key head.

    Args:
        queries: ``(B, H, T, head_dim)``.
        keys, values: ``(B, Hkv, S, head_dim)``.
        mask: bool, broadcastable to ``(B, H, T, S)``, true where a query may look; or the packing of the tokens of a
            batch of one; None for no mask.
        causal: without a mask, let query t see keys 0 to t.

    Returns:
        ``(B, H, T, head_dim)``.
    """
    if isinstance(mask, Packing):
        blocks = zip(mask.split(queries), mask.split(keys), mask.split(values), mask.masks, strict=True)
        return mask.join([attend(*block, block[-1] is None) for block in blocks])
    if queries.device.type == "cpu" and queries.dtype in (torch.bfloat16, torch.float16):
        return _attend_in_matrix_products(queries, keys, values, mask, causal)
    grouped = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal, enable_gqa=grouped)


def _attend_in_matrix_products(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """Compute ``attend`` unfused: on the CPU in half precision the fused kernel takes 1.5 to 5 times as long."""
    batch, _, new, head_dim = queries.shape
    key_heads, seen = keys.shape[1:3]
    grouped = queries.reshape(batch, key_heads, -1, head_dim)  # (B, Hkv, H / Hkv * T, head_dim)
    scores = (grouped @ keys.transpose(2, 3)).view(batch, key_heads, -1, new, seen)  # (B, Hkv, H / Hkv, T, S)
    scores = scores * head_dim**-0.5
    if mask is None and causal:
        mask = torch.ones(1, 1, new, seen, dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask[:, :, None], float("-inf"))
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype)
    return (weights.view(batch, key_heads, -1, seen) @ values).view(queries.shape)


class AttentionPrefix(Protocol):
    """What an adapter adds to the attention of one layer."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Return ``(B, H, T, head_dim)``: attention to the text and to the prefix; arguments as in ``attend``."""
        ...


class LayerCache:
    """Keys and values of one layer for the positions seen so far, in buffers allocated once.

    Shapes:
        keys, values: ``(B, Hkv, capacity, head_dim)``; the first ``length`` positions are filled.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store ``(B, Hkv, T, head_dim)`` new keys and values; return all stored so far."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class Attention(nn.Module):
    """Grouped-query self-attention with rotary embedding (Llama 2, arXiv 2307.09288, section 2.2)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        query_size, key_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        bias = config.attention_bias
        self.query = nn.Linear(config.hidden_size, query_size, bias=bias)
        self.key = nn.Linear(config.hidden_size, key_size, bias=bias)
        self.value = nn.Linear(config.hidden_size, key_size, bias=bias)
        self.output = nn.Linear(query_size, config.hidden_size, bias=bias)

    def split_heads(self, features: Tensor) -> Tensor:
        """Turn ``(B, T, heads * head_dim)`` into ``(B, heads, T, head_dim)``."""
        return features.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(
        self,
        hidden_states: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Mask,
        prefix: AttentionPrefix | None,
        cache: LayerCache | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Map normalised ``(B, T, D)`` to the attention's contribution ``(B, T, D)``, at positions ``wanted`` alone."""
        queries = rotate(self.split_heads(self.query(hidden_states)), rotary)  # (B, H, T, head_dim)
        keys = rotate(self.split_heads(self.key(hidden_states)), rotary)  # (B, Hkv, T, head_dim)
        values = self.split_heads(self.value(hidden_states))  # (B, Hkv, T, head_dim)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (B, Hkv, S, head_dim)
        causal = mask is None and queries.shape[2] > 1
        combine = attend if prefix is None else prefix.attend
        mixed = combine(queries, keys, values, mask, causal)  # (B, H, T, head_dim)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, T, H * head_dim)
        return self.output(mixed if wanted is None else mixed.index_select(1, wanted))
