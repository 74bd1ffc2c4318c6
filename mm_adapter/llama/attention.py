"""Causal self-attention with rotary embedding, grouped queries, a cache, and room for an adapter's prefix.

Rotary position embedding (RoFormer, arXiv 2104.09864) stands in the half-split layout of Hugging Face. A ``Packing``
stores sequences of different lengths one after another: what is computed token by token is never padded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_adapter.llama.config import LlamaConfig, RopeDivisors, RopeScaling


@dataclass(frozen=True)
class Packing:
    """Where B sequences lie among N packed tokens, and what their tokens see; none sees another sequence.

    Attention alone needs rows of equal length. It runs by groups of sequences of similar length, each padded to the
    longest of its group.

    Attributes:
        segment_ids: ``(N,)`` int64, the sequence of each token.
        slots: ``(N,)`` int64, the place of each token among the padded slots of all groups, one group after another.
        members: for each group ``(b,)`` int64, its sequences.
        masks: for each group bool ``(b, 1, t, t)``, true where a query (third axis) may look at a key (fourth).
    """

    segment_ids: Tensor
    slots: Tensor
    members: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    @classmethod
    def build(cls, lengths: Sequence[int], groups: Sequence[Sequence[int]], masks: Sequence[Tensor]) -> "Packing":
        """Return the packing of sequences of ``lengths`` tokens.

        Args:
            lengths: tokens of each sequence, in the order in which they are packed.
            groups: sequences that attend in one padded block; every sequence is in exactly one.
            masks: of each group, see ``masks`` of the class; padded slots must see something, or they are NaN.
        """
        starts = list(accumulate(lengths, initial=0))
        slots, first = torch.empty(starts[-1], dtype=torch.int64), 0
        for group, mask in zip(groups, masks, strict=True):
            for row, sequence in enumerate(group):
                place = first + row * mask.shape[-1]
                slots[starts[sequence] : starts[sequence + 1]] = torch.arange(place, place + lengths[sequence])
            first += mask.shape[0] * mask.shape[-1]
        segment_ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        return cls(segment_ids, slots, tuple(torch.tensor(group) for group in groups), tuple(masks))

    def to(self, device: torch.device | str) -> "Packing":
        """Return the packing with every tensor on ``device``."""
        return replace(
            self,
            segment_ids=self.segment_ids.to(device),
            slots=self.slots.to(device),
            members=tuple(tensor.to(device) for tensor in self.members),
            masks=tuple(tensor.to(device) for tensor in self.masks),
        )

    def split(self, heads: Tensor) -> list[Tensor]:
        """Turn ``(1, H, N, head_dim)`` into ``(b, H, t, head_dim)`` for each group, zeros where padded."""
        flat = heads[0].transpose(0, 1).flatten(1)  # (N, H * head_dim)
        sizes = [mask.shape[0] * mask.shape[-1] for mask in self.masks]
        padded = flat.new_zeros(sum(sizes), flat.shape[1]).index_copy(0, self.slots, flat)  # (slots, H * head_dim)
        return [
            part.view(mask.shape[0], mask.shape[-1], heads.shape[1], -1).transpose(1, 2)
            for part, mask in zip(padded.split(sizes), self.masks, strict=True)
        ]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Undo ``split``: turn the groups' ``(b, H, t, head_dim)`` into ``(1, H, N, head_dim)``."""
        num_heads = parts[0].shape[1]
        padded = torch.cat([part.transpose(1, 2).flatten(0, 1).flatten(1) for part in parts])  # (slots, H * head_dim)
        tokens = _DistinctRows.apply(padded, self.slots)  # (N, H * head_dim)
        return tokens.unflatten(1, (num_heads, -1)).transpose(0, 1)[None]


class _DistinctRows(torch.autograd.Function):
    """``index_select`` of distinct rows: its gradient is a copy, which costs a fraction of a scattered sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.count = rows.shape[0]
        return rows.index_select(0, indices)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.count, gradient.shape[1]).index_copy_(0, indices, gradient), None


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
    """Return cosine and signed sine for ``rotate``.

    Args:
        positions: ``(T,)`` or ``(B, T)`` int64.
        frequencies: ``(head_dim / 2,)`` float32.
        dtype: of the result.

    Returns:
        Two tensors ``(1 or B, 1, T, head_dim)``; the first half of the sines carries the minus of the rotation.
    """
    angles = torch.atleast_2d(positions)[:, None, :, None].float() * frequencies  # (1 or B, 1, T, head_dim / 2)
    cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
    return torch.cat((cosine, cosine), dim=-1), torch.cat((-sine, sine), dim=-1)


def rotate(heads: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate ``heads`` ``(B, H, T, head_dim)`` by the angles in ``tables``."""
    cosine, sine = tables
    half = heads.shape[-1] // 2
    return heads * cosine + heads.roll(half, dims=-1) * sine


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
        return mask.join([attend(*block, False) for block in blocks])
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
