"""Matrices in 8 and 4 bits by the bitsandbytes library (arXiv 2208.07339, 2305.14314), which computes on CPU and CUDA."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.llama.matrix import Matrix

BLOCK = 64  # values of a 4-bit block, which share a scale: the library's default


@dataclass(frozen=True)
class Int8Matrix(Matrix):
    """Integers of 8 bits, and a scale for each row.

    Attributes:
        values: ``(rows, columns)`` int8.
        largest: ``(rows,)`` float32, the magnitude that 127 stands for.
    """

    values: Tensor
    largest: Tensor

    @classmethod
    def quantize(cls, shape: tuple[int, int], slabs: Iterable[Tensor]) -> "Int8Matrix":
        """Quantise a matrix whose rows come slab by slab."""
        quantize = _library().int8_vectorwise_quant
        values, largest = zip(*(quantize(slab.float())[:2] for slab in slabs), strict=True)
        return cls(shape, torch.cat(values), torch.cat(largest))

    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows; see ``Matrix``."""
        return _library().int8_vectorwise_dequant(self.values[rows], self.largest[rows]).to(dtype)


@dataclass(frozen=True)
class Int4Matrix(Matrix):
    """Values of 4 bits, spaced as those of a normal distribution are (NF4), and a scale for every 64.

    Attributes:
        values: ``(rows * columns / 2,)`` uint8, two in a byte.
        largest: ``(rows * columns / 64,)`` float32.
    """

    values: Tensor
    largest: Tensor

    @classmethod
    def quantize(cls, shape: tuple[int, int], slabs: Iterable[Tensor]) -> "Int4Matrix":
        """Quantise a matrix whose rows come slab by slab, each of whole blocks."""
        library = _library()
        parts = [library.quantize_4bit(slab.float(), blocksize=BLOCK, quant_type="nf4") for slab in slabs]
        values = torch.cat([packed.flatten() for packed, _ in parts])
        return cls(shape, values, torch.cat([state.absmax for _, state in parts]))

    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows; see ``Matrix``."""
        if isinstance(rows, Tensor):  # a row need not begin with a block
            return self.dense(slice(0, self.shape[0]), dtype)[rows]
        library = _library()
        first, last = rows.start * self.shape[1], rows.stop * self.shape[1]
        part = torch.Size((rows.stop - rows.start, self.shape[1]))
        largest = self.largest[first // BLOCK : last // BLOCK]
        state = library.QuantState(largest, part, blocksize=BLOCK, quant_type="nf4", dtype=dtype)
        return library.dequantize_4bit(self.values[first // 2 : last // 2, None], state)


def _library() -> Any:
    # It warns of kernels that it would fetch from a hub; they are for products that are not used here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        import bitsandbytes.functional as functional
    except ImportError:
        raise UserError(
            "int8 and int4 need the bitsandbytes library: pip install 'mm-adapter[quantized]'. "
            "Without it, quantization blocks keeps a GGUF file's own."
        ) from None
    return functional
