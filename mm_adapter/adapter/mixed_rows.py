"""Prefixes of rows that have an adapter each, or none: one pass serves the requests of several adapters.

Zero-init attention adds ``strength * attention to prompts`` to a row's attention to its text, whatever the adapter:
what differs between rows is stacked, and a row without an adapter has strength 0, which adds nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_adapter.adapter.attention import GatedPrefix, SummedPrefix
from mm_adapter.llama.attention import AttentionPrefix, Mask, attend
from mm_adapter.llama.model import Prefixes
from mm_adapter.llama.packing import Packing


def mix_prefixes(rows: Sequence[Prefixes | None], num_layers: int) -> list[AttentionPrefix | None] | None:
    """Return the prefix of every layer for a batch of rows.

    Args:
        rows: B, each the prefixes of one row alone (see ``Adapter.prefixes``), None for the base model.
        num_layers: of the decoder.

    Returns:
        One prefix a layer, None for layers that no row's adapter touches; None where no row has an adapter. They take
        B rows, or a ``Packing`` of B sequences.
    """
    if all(row is None for row in rows):
        return None
    return [_mix([None if row is None else row[layer] for row in rows]) for layer in range(num_layers)]


def _mix(rows: Sequence[AttentionPrefix | None]) -> AttentionPrefix | None:
    if all(row is None for row in rows):
        return None
    if not _all_gated(rows):
        return SeparateRows(tuple(rows))
    stacked = [GatedRows.stack([row.prompts if isinstance(row, SummedPrefix) else row for row in rows])]
    if any(isinstance(row, SummedPrefix) for row in rows):
        stacked.append(GatedRows.stack([row.pieces if isinstance(row, SummedPrefix) else None for row in rows]))
    return SummedRows(tuple(stacked))


def _all_gated(rows: Sequence[AttentionPrefix | None]) -> TypeGuard[Sequence[GatedPrefix | SummedPrefix | None]]:
    return all(row is None or isinstance(row, GatedPrefix | SummedPrefix) for row in rows)


@dataclass(frozen=True)
class GatedRows:
    """The prompts of B rows, each behind gates of its own.

    Attributes:
        keys, values: ``(B, Hkv, K, head_dim)``, zeros beyond a row's own prompts; pictures are in the values.
        strength: ``(B, H, 1, 1)``; 0 for rows without an adapter.
        visible: ``(B, 1, 1, K)`` bool, which prompts are a row's own; None where all rows have K.
    """

    keys: Tensor
    values: Tensor
    strength: Tensor
    visible: Tensor | None

    @classmethod
    def stack(cls, rows: Sequence[GatedPrefix | None]) -> "GatedRows":
        """Return what rows of one sample each have together; at least one has a prefix."""
        known = next(row for row in rows if row is not None)
        lengths = [0 if row is None else row.keys.shape[2] for row in rows]
        longest = max(lengths)
        empty = torch.zeros_like(known.keys[:, :, :0])
        keys = [_filled(empty if row is None else row.keys, longest) for row in rows]
        values = [_filled(empty if row is None else row.shifted_values, longest) for row in rows]
        strengths = [torch.zeros_like(known.strength) if row is None else row.strength for row in rows]
        visible = None
        if any(0 < length < longest for length in lengths):
            # A row without prompts looks at all of them, zeros, rather than at nothing, which would be NaN.
            own = torch.tensor([length or longest for length in lengths], device=known.keys.device)
            visible = (torch.arange(longest, device=own.device) < own[:, None])[:, None, None]  # (B, 1, 1, K)
        return cls(torch.cat(keys), torch.cat(values), torch.cat(strengths), visible)

    def attend_to_prompts(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the gated attention to the prompts, ``(b, H, T, head_dim)``, of all rows or of ``rows`` ``(b,)``."""
        if rows is not None:
            visible = None if self.visible is None else self.visible[rows]
            own = GatedRows(self.keys[rows], self.values[rows], self.strength[rows], visible)
            return own.attend_to_prompts(queries)
        return self.strength * attend(queries, self.keys, self.values, self.visible, False)


def _filled(heads: Tensor, length: int) -> Tensor:
    """Fill up ``(1, Hkv, k, head_dim)`` with zeros to ``length`` prompts."""
    return F.pad(heads, (0, 0, 0, length - heads.shape[2]))


def _blocks(
    packing: Packing, queries: Tensor, keys: Tensor, values: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor, bool]]:
    """Yield queries, keys, values, mask, rows and whether merely causal of each group of a packed batch."""
    causal = [mask is None for mask in packing.masks]
    split = map(packing.split, (queries, keys, values))
    yield from zip(*split, packing.masks, packing.members, causal, strict=True)


@dataclass(frozen=True)
class SummedRows:
    """Attention to the text, plus a gated attention to each stack of prompts.

    Attributes:
        parts: the adaption prompts of all rows, and the pieces of their pictures where any row has some.
    """

    parts: tuple[GatedRows, ...]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Return ``(B, H, T, head_dim)``; arguments as in ``mm_adapter.llama.attention.attend``."""
        if isinstance(mask, Packing):
            return mask.join([self._attend(*block) for block in _blocks(mask, queries, keys, values)])
        return self._attend(queries, keys, values, mask, None, causal)

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        rows: Tensor | None,
        causal: bool = False,
    ) -> Tensor:
        result = attend(queries, keys, values, mask, causal)  # (b, H, T, head_dim)
        for part in self.parts:
            result = result + part.attend_to_prompts(queries, rows)
        return result


@dataclass(frozen=True)
class SeparateRows:
    """Prefixes of several kinds, row by row: random-init attention joins prompts to the text's own softmax.

    Attributes:
        rows: B prefixes of one sample each, None for rows of the base model.
    """

    rows: tuple[AttentionPrefix | None, ...]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Return ``(B, H, T, head_dim)``; arguments as in ``mm_adapter.llama.attention.attend``."""
        if isinstance(mask, Packing):
            return mask.join([self._attend(*block) for block in _blocks(mask, queries, keys, values)])
        return self._attend(queries, keys, values, mask, None, causal)

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        rows: Tensor | None,
        causal: bool = False,
    ) -> Tensor:
        found = []
        for place, row in enumerate(range(len(self.rows)) if rows is None else rows.tolist()):
            prefix, one = self.rows[row], slice(place, place + 1)
            seen = mask if mask is None or mask.shape[0] == 1 else mask[one]
            combine = attend if prefix is None else prefix.attend
            found.append(combine(queries[one], keys[one], values[one], seen, causal))
        return torch.cat(found)
