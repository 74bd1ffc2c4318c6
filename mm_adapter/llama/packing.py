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
