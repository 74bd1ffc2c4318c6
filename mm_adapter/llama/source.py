"""What a reader of weights hands over, whatever the format it came from."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mm_adapter.fingerprint import Sampler
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.matrix import Matrix
from mm_adapter.llama.pages import MappedFile
from mm_adapter.llama.tokenizer import Tokenizer

_SLAB = 1 << 21  # values that are converted at a time: what reading needs beyond the model itself


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
        shape: as the model wants it.
        dtype: name of the stored kind, for people: ``bfloat16``, ``Q4_K``.
        read: returns rows ``first`` to ``last`` (exclusive), in a floating dtype and in memory of their own.
        granule: rows that are reordered together; ``first`` and ``last`` are multiples of it.
        mapped: the whole tensor, memory-mapped, where it lies in the file just as it is wanted; else None.
        blocks: returns the whole matrix in the quantised blocks of its file; None in formats without them.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[int, int], Tensor]
    granule: int = 1
    mapped: Tensor | None = None
    blocks: Callable[[], Matrix] | None = None

    def load(self, dtype: torch.dtype) -> tuple[Tensor, bytes]:
        """Return the tensor in ``dtype``, mapped where possible, and the digest of its stored values."""
        sampler = Sampler(self.shape)
        if self.mapped is not None and self.mapped.dtype == dtype:
            sampler.add(0, self.mapped)
            return self.mapped, sampler.digest()
        target = torch.empty(self.shape, dtype=dtype)
        first = 0
        for rows in self.sampled(sampler):
            target[first : first + len(rows)] = rows
            first += len(rows)
        return target, sampler.digest()

    def sampled(self, sampler: Sampler) -> Iterator[Tensor]:
        """Yield all rows, some at a time, and show them to ``sampler``."""
        for first, rows in self._slabs():
            sampler.add(first * self._width, rows)
            yield rows

    def digest(self) -> bytes:
        """Return the digest that ``load`` returns; of a large tensor only a few rows are read."""
        sampler = Sampler(self.shape)
        if self.mapped is not None:
            sampler.add(0, self.mapped)
        elif math.prod(self.shape) <= 4 * _SLAB:  # reading it through is quicker than finding each row
            for _ in self.sampled(sampler):
                pass
        else:
            for granule in dict.fromkeys((sampler.positions // (self._width * self.granule)).tolist()):
                first = granule * self.granule
                sampler.add(first * self._width, self.read(first, min(first + self.granule, self.shape[0])))
        return sampler.digest()

    @property
    def _width(self) -> int:
        return math.prod(self.shape[1:])

    def _slabs(self) -> Iterator[tuple[int, Tensor]]:
        step = max(1, _SLAB // (self._width * self.granule)) * self.granule
        for first in range(0, self.shape[0], step):
            yield first, self.read(first, min(first + step, self.shape[0]))


@dataclass(frozen=True)
class WeightSource:
    """A model on disk, opened but not yet loaded.

    Attributes:
        layout: which format it is in, for people.
        config: its shape.
        tensors: yields each ``(canonical name, stored tensor)``.
        tokenizer: builds the tokenizer, or returns None where the files have none.
        chat_template: returns the template of conversations that the files carry, or None.
    """

    layout: str
    config: LlamaConfig
    tensors: Callable[[], Iterator[tuple[str, StoredTensor]]]
    tokenizer: Callable[[], Tokenizer | None]
    chat_template: Callable[[], str | None]


def store_mapped(tensor: Tensor, file: MappedFile, heads: int | None = None) -> StoredTensor:
    """Describe a tensor that a library mapped from ``file``.

    Args:
        tensor: of a floating dtype; only its rows that are wanted are read.
        heads: of a query or key projection whose rotary pairs are adjacent in the file; None where the order is right.
    """

    def read(first: int, last: int) -> Tensor:
        rows = tensor[first:last]
        copy = rows.clone() if heads is None else interleaved_to_half_split(rows, (last - first) // granule).clone()
        file.release(rows)
        return copy

    granule = 1 if heads is None else max(1, len(tensor) // heads)
    mapped = tensor if heads is None else None
    return StoredTensor(tuple(tensor.shape), dtype_name(tensor.dtype), read, granule, mapped)


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def interleaved_to_half_split(weight: Tensor, num_heads: int) -> Tensor:
    """Reorder a query or key projection from adjacent rotary pairs to half-split pairs.

    Meta's files and GGUF rotate channels (0, 1), (2, 3), …; Hugging Face and this package (0, d/2), (1, d/2 + 1), ….

    Args:
        weight: ``(num_heads * head_dim, D)`` or a bias ``(num_heads * head_dim,)``.
    """
    head_dim = weight.shape[0] // num_heads
    pairs = weight.reshape(num_heads, head_dim // 2, 2, *weight.shape[1:])
    return torch.transpose(pairs, 1, 2).reshape(weight.shape)
