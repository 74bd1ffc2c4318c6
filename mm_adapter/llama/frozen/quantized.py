"""Matrices in 8 and 4 bits by the torchao library.

torchao chooses scales, rounds and makes dense again. Its 4-bit tensors are for products on CUDA alone, so how two
values share a byte stands here, in the library's own order.
"""

import importlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
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
