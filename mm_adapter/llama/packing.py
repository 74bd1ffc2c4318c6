"""Sequences of different lengths stored one after another: what is computed token by token is never padded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where B sequences lie among N packed tokens, and what their tokens see; none sees another sequence.

    Attention alone needs rows. On the CPU every sequence attends by itself, and nothing is padded. Elsewhere, where few
    large kernels beat many small ones, sequences of similar length attend in groups, each padded to its longest.

    Attributes:
        segment_ids: ``(N,)`` int64, the sequence of each token.
        lengths: tokens of each sequence, B.
        members: for each group ``(b,)`` int64, its sequences.
        masks: for each group bool ``(b, 1, t, t)``, true where a query (third axis) may look at a key (fourth); None
            for plain causal attention of one sequence.
        slots: ``(N,)`` int64, the place of each token among the padded slots of all groups, one group after another;
            None where every group is one sequence, in their order.
    """

    segment_ids: Tensor
    lengths: tuple[int, ...]
    members: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    slots: Tensor | None

    @classmethod
    def build(
        cls, lengths: Sequence[int], groups: Sequence[Sequence[int]] | None, masks: Sequence[Tensor | None]
    ) -> "Packing":
        """Return the packing of sequences of ``lengths`` tokens.

        Args:
            lengths: tokens of each sequence, in the order in which they are packed.
            groups: sequences that attend in one padded block; every sequence is in exactly one. None: each by itself.
            masks: of each group, see ``masks`` of the class; padded slots must see something, or they are NaN.
        """
        segment_ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        if groups is None:
            alone = tuple(torch.tensor([sequence]) for sequence in range(len(lengths)))
            return cls(segment_ids, tuple(lengths), alone, tuple(masks), None)
        starts = list(accumulate(lengths, initial=0))
        slots, first = torch.empty(starts[-1], dtype=torch.int64), 0
        for group, mask in zip(groups, masks, strict=True):
            assert mask is not None
            for row, sequence in enumerate(group):
                place = first + row * mask.shape[-1]
                slots[starts[sequence] : starts[sequence + 1]] = torch.arange(place, place + lengths[sequence])
            first += mask.shape[0] * mask.shape[-1]
        members = tuple(torch.tensor(group) for group in groups)
        return cls(segment_ids, tuple(lengths), members, tuple(masks), slots)

    def to(self, device: torch.device | str) -> "Packing":
        """Return the packing with every tensor on ``device``, and in groups where that is not the CPU."""
        packing = self.grouped() if self.slots is None and torch.device(device).type != "cpu" else self
        return replace(
            packing,
            segment_ids=packing.segment_ids.to(device),
            members=tuple(tensor.to(device) for tensor in packing.members),
            masks=tuple(None if mask is None else mask.to(device) for mask in packing.masks),
            slots=None if packing.slots is None else packing.slots.to(device),
        )

    def grouped(self) -> "Packing":
        """Return the same with sequences of similar length in groups; here each attends by itself."""
        groups = attention_groups(self.lengths)
        return Packing.build(self.lengths, groups, [self._joined_mask(group) for group in groups])

    def _joined_mask(self, group: Sequence[int]) -> Tensor:
        width = max(self.lengths[sequence] for sequence in group)
        causal = torch.ones(width, width, dtype=torch.bool).tril().expand(len(group), 1, width, width)
        own = [self.masks[sequence] for sequence in group]
        if all(mask is None for mask in own):
            return causal
        result = causal.clone()
        for row, (mask, sequence) in enumerate(zip(own, group, strict=True)):
            if mask is not None:
                # What is padded looks at what was before it: an empty row would be NaN.
                result[row, :, : self.lengths[sequence], : self.lengths[sequence]] = mask[0]
        return result

    def split(self, heads: Tensor) -> Sequence[Tensor]:
        """Turn ``(1, H, N, head_dim)`` into ``(b, H, t, head_dim)`` for each group, zeros where padded."""
        if self.slots is None:
            return heads.split(self.lengths, dim=2)
        sizes = [(mask.shape[0], mask.shape[-1]) for mask in self.masks if mask is not None]
        flat = heads[0].transpose(0, 1).flatten(1)  # (N, H * head_dim)
        padded = flat.new_zeros(sum(b * t for b, t in sizes), flat.shape[1])
        padded = padded.index_copy(0, self.slots, flat)  # (slots, H * head_dim)
        parts = padded.split([b * t for b, t in sizes])
        return [part.view(*size, heads.shape[1], -1).transpose(1, 2) for part, size in zip(parts, sizes, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Undo ``split``: turn the groups' ``(b, H, t, head_dim)`` into ``(1, H, N, head_dim)``."""
        if self.slots is None:
            return torch.cat(list(parts), dim=2)
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


def attention_groups(lengths: Sequence[int], overhead: int = 1 << 14) -> list[list[int]]:
    """Split sequences into groups of similar length that cost attention the least, each padded to its longest.

    Args:
        lengths: tokens of each sequence.
        overhead: what one more group costs, in pairs of tokens' worth of work.

    Returns:
        Indices into ``lengths``, every index once, found by dynamic programming over the sorted lengths.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    cheapest, cut = [0], [0]
    for end in range(1, len(order) + 1):
        pairs = lengths[order[end - 1]] ** 2
        costs = [cheapest[start] + (end - start) * pairs + overhead for start in range(end)]
        cheapest.append(min(costs))
        cut.append(costs.index(cheapest[-1]))
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(order[cut[end] : end])
        end = cut[end]
    return groups[::-1]
