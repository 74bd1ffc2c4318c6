"""Matrices in 8 and 4 bits by the torchao library, and in the quantised blocks of a GGUF file.

torchao chooses scales, rounds and makes dense again. Its 4-bit tensors are for products on CUDA alone, so how two
values share a byte stands here, in the library's own order. Blocks of GGUF are made dense by torch on any device. Their
layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h; the arithmetic is that of ``gguf.quants``, to
which the kinds that are not listed here are left.
"""

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.llama.frozen.matrix import Matrix

GROUP = 32  # values that share a scale and a minimum in 4 bits


@dataclass(frozen=True)
class Int8Matrix(Matrix):
    """Integers of 8 bits, symmetric, and a scale for each row.

    Attributes:
        values: ``(rows, columns)`` int8.
        scales: ``(rows, 1)`` float32.
    """

    values: Tensor
    scales: Tensor

    @classmethod
    def quantize(cls, shape: tuple[int, int], slabs: Iterable[Tensor]) -> "Int8Matrix":
        """Quantise a matrix whose rows come slab by slab."""
        library, row = _library("quantization.quant_primitives"), (1, shape[1])
        whole = cls(shape, torch.empty(shape, dtype=torch.int8), torch.empty(shape[0], 1))
        for rows, slab in _placed(slabs):
            found = library.choose_qparams_affine(slab, library.MappingType.SYMMETRIC, row, torch.int8)
            scales, zeros = (values.view(-1, 1) for values in found)  # torchao 0.9 has no keepdim
            whole.values[rows] = library.quantize_affine(slab, row, scales, zeros, torch.int8)
            whole.scales[rows] = scales
        return whole

    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows; see ``Matrix``."""
        library, row = _library("quantization.quant_primitives"), (1, self.shape[1])
        return library.dequantize_affine(
            self.values[rows], row, self.scales[rows], None, torch.int8, output_dtype=dtype
        )


@dataclass(frozen=True)
class Int4Matrix(Matrix):
    """Integers of 4 bits, and a scale and a zero point for every 32 of a row: 5 bits a value.

    Attributes:
        values: ``(rows, columns / 2)`` uint8, the first of two values in the upper half.
        scales, zeros: ``(rows, columns / 32)`` float16.
    """

    values: Tensor
    scales: Tensor
    zeros: Tensor

    @classmethod
    def quantize(cls, shape: tuple[int, int], slabs: Iterable[Tensor]) -> "Int4Matrix":
        """Quantise a matrix, of whole groups, whose rows come slab by slab."""
        library = _library("quantization.utils")
        groups = torch.empty(2, shape[0], shape[1] // GROUP, dtype=torch.float16)
        whole = cls(shape, torch.empty(shape[0], shape[1] // 2, dtype=torch.uint8), *groups)
        for rows, slab in _placed(slabs):
            whole.scales[rows], whole.zeros[rows] = library.get_groupwise_affine_qparams(slab, 4, GROUP, torch.float32)
            # With the scales as they are kept, so that rounding them costs no more than it must.
            values = library.groupwise_affine_quantize_tensor_from_qparams(
                slab, whole.scales[rows].float(), whole.zeros[rows].float(), 4, GROUP
            )
            whole.values[rows] = (values[:, ::2] << 4 | values[:, 1::2]).to(torch.uint8)
        return whole

    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows; see ``Matrix``."""
        values = self.values[rows]
        if values.device.type == "cpu":  # where the library wants each value in a number of its own
            values = torch.stack((values >> 4, values & 15), dim=-1).flatten(1).int()
        scales, zeros = self.scales[rows].float(), self.zeros[rows].float()
        restore = _library("quantization.utils").groupwise_affine_dequantize_tensor_from_qparams
        return restore(values, scales, zeros, 4, GROUP).to(dtype)


def _placed(slabs: Iterable[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Yield each slab in float32 with the rows that it is of the whole."""
    first = 0
    for slab in slabs:
        yield slice(first, first + len(slab)), slab.float()
        first += len(slab)


@cache
def _library(module: str) -> Any:
    tree = logging.getLogger("torch.utils._pytree")  # would tell the user of names that are old to the library alone
    level = tree.level
    tree.setLevel(logging.ERROR)
    try:
        return importlib.import_module(f"torchao.{module}")
    except ImportError:
        raise UserError(
            "quantization int8 and int4 need the torchao library: pip install 'mm-adapter[quantized]'. "
            "Without it there is blocks, which keeps a GGUF file's own."
        ) from None
    finally:
        tree.setLevel(level)


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
