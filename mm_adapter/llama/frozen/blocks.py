"""Matrices in the quantised blocks of a GGUF file, made dense by torch on any device.

Layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h; the arithmetic is that of ``gguf.quants``, to
which the kinds that are not listed here are left.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from mm_adapter.llama.frozen.matrix import Matrix

_NIBBLES = (0, 4)


@dataclass(frozen=True)
class BlockMatrix(Matrix):
    """Rows as they lie in the file.

    Attributes:
        blocks: ``(rows, bytes of a row)`` uint8, mapped from the file where the order of its rows is right.
        kind: of quantisation.
    """

    blocks: Tensor
    kind: GGMLQuantizationType

    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows; see ``Matrix``."""
        chosen = self.blocks[rows]
        values = dequantized(chosen.view(-1, GGML_QUANT_SIZES[self.kind][1]), self.kind)
        return values.view(len(chosen), self.shape[1]).to(dtype)


def dequantized(blocks: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """Return the values ``(B, values of a block)`` of blocks ``(B, bytes of a block)`` uint8.

    They are float32, save those of kinds that are plain numbers.
    """
    if kind in _PLAIN:
        return blocks.view(_PLAIN[kind])
    if kind in _KINDS:
        return _KINDS[kind](blocks)
    return torch.from_numpy(dequantize(blocks.cpu().numpy(), kind)).to(blocks.device)


def _half(blocks: Tensor, place: int) -> Tensor:
    """Return the float16 number at a byte of each block, ``(B, 1)`` float32."""
    return blocks[:, place : place + 2].view(torch.float16).float()


def _unpacked(packed: Tensor, shifts: tuple[int, ...], group: int, mask: int) -> Tensor:
    """Return the parts of bytes ``(B, n)``: of each ``group`` bytes first all lowest parts, then all next, …."""
    count = len(packed)
    places = torch.tensor(shifts, dtype=torch.uint8, device=packed.device).view(1, 1, -1, 1)
    return (packed.reshape(count, -1, 1, group) >> places & mask).view(count, -1)


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_unpacked(blocks[:, 2:], _NIBBLES, 16, 15).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _unpacked(blocks[:, 4:], _NIBBLES, 16, 15).float().mul_(_half(blocks, 0)).add_(_half(blocks, 2))


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float().mul_(_half(blocks, 0))


def _q4_k(blocks: Tensor) -> Tensor:
    """Eight groups of 32 values, each with a scale and a minimum of 6 bits."""
    low, middle, high = blocks[:, 4:16].split(4, dim=1)
    scales = torch.cat((low & 63, (high & 15) | (low >> 2 & 48)), dim=1).float() * _half(blocks, 0)
    minima = torch.cat((middle & 63, (high >> 4) | (middle >> 2 & 48)), dim=1).float() * _half(blocks, 2)
    values = _unpacked(blocks[:, 16:], _NIBBLES, 32, 15).float().view(-1, 8, 32)
    return (values.mul_(scales[:, :, None]).sub_(minima[:, :, None])).view(-1, 256)


def _q6_k(blocks: Tensor) -> Tensor:
    """Sixteen groups of 16 values, each with a scale of 8 bits; four bits of a value here, two there."""
    low, high = blocks[:, :128], blocks[:, 128:192]
    values = _unpacked(low, _NIBBLES, 64, 15) | _unpacked(high, (0, 2, 4, 6), 32, 3) << 4
    scales = blocks[:, 192:208].view(torch.int8).float() * _half(blocks, 208)
    return ((values.float() - 32).view(-1, 16, 16) * scales[:, :, None]).view(-1, 256)


_PLAIN = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
_KINDS: dict[GGMLQuantizationType, Callable[[Tensor], Tensor]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q8_0: _q8_0,
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}
