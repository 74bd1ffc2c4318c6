"""What a reader of weights hands over, and the two ways in which files are read: memory-mapped, or as torch wrote them.

A file that ``torch.save`` wrote (``.pth``, ``.bin``) is read as tensors alone: no pickled code is ever run.
"""

import argparse
import ctypes
import math
import mmap
import pathlib
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import refuse_pointer
from mm_adapter.core.fingerprint import Sampler
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.frozen.matrix import Matrix
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer

_DONTNEED = getattr(mmap, "MADV_DONTNEED", None)


class MappedFile:
    """Where a file lies in this process's memory, however a library mapped it.

    Pages of a mapped file count as resident from the first look at them. A model that is converted while it is read
    would be in memory twice; given back, the pages cost nothing, and a second look reads them from the file again.
    Only ranges that the system itself lists under the file's path are ever given back: to any other memory it would be
    fatal. Where the system has no such list, nothing is given back, and reading takes more memory.

    Args:
        path: the file, already mapped.
    """

    def __init__(self, path: Path) -> None:
        self._ranges = _mappings(str(path.resolve())) if _DONTNEED is not None and sys.platform == "linux" else []

    def release(self, tensor: Tensor) -> None:
        """Give back the whole pages under a tensor that lies in the file."""
        if tensor.is_contiguous():
            self.release_range(tensor.data_ptr(), tensor.nbytes)

    def release_range(self, address: int, size: int) -> None:
        """Give back the whole pages among ``size`` bytes from ``address``."""
        first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (address + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and any(start <= first and last <= end for start, end in self._ranges):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)


def _mappings(path: str) -> list[tuple[int, int]]:
    """Return the address ranges, neighbours joined, that the system maps to ``path``."""
    ranges: list[tuple[int, int]] = []
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == path:
            start, end = (int(address, 16) for address in fields[0].split("-"))
            if ranges and ranges[-1][1] == start:
                start = ranges.pop()[0]
            ranges.append((start, end))
    return ranges


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


def same_values(one: StoredTensor, other: StoredTensor) -> bool:
    """Tell whether two stored tensors have one shape and the same values; rows are compared a slab at a time."""
    if one.shape != other.shape:
        return False
    rows = max(1, _SLAB // max(1, math.prod(one.shape[1:])))
    return all(
        torch.equal(one.read(first, first + rows).float(), other.read(first, first + rows).float())
        for first in range(0, one.shape[0], rows)
    )


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


def half_split_to_interleaved(weight: Tensor, num_heads: int) -> Tensor:
    """Undo ``interleaved_to_half_split``."""
    halves = weight.reshape(num_heads, 2, -1, *weight.shape[1:])
    return torch.transpose(halves, 1, 2).reshape(weight.shape)


# What training scripts keep beside their tensors, in their own words: names and values, of which nothing is run.
_INERT: list[Any] = [
    argparse.Namespace,
    *((pathlib.PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((pathlib.PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.pth`` or ``.bin`` file, memory-mapped, with no pickled code executed.

    Of a checkpoint of a training, with its optimizer and arguments, they are those under ``model``.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors by name; a pickled global is named.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors as ``read_tensors`` does, and what stands beside ``model``, by name."""
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_INERT):
            content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler raises whatever a damaged stream leads it to
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise UserError(
                f"{path}: refused: the file asks for {refused[1]}, which is no tensor; nothing in it was run. "
                "Use safetensors files of the model."
            ) from error
        said = re.search(r"WeightsUnpickler error: (.+)", str(error))
        reason = said[1] if said else (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable file of tensors ({reason}). Fetch it again.") from error
    beside = {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    beside = {key: value for key, value in beside.items() if key != "model"} if "model" in beside else {}
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and type(value) in (Tensor, torch.nn.Parameter) for name, value in content.items()
    ):
        raise UserError(f"{path}: holds something other than tensors by name.")
    return {name: value.detach() for name, value in content.items()}, beside


def _check_archive(path: Path) -> None:
    refuse_pointer(path)
    # Records that are compressed, or larger than the file, would be memory that the file does not pay for.
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a file of tensors.") from None
    except Exception as error:  # like torch's: whatever a damaged archive leads to
        raise UserError(
            f"{path}: not a readable file of tensors ({error}). Fetch it again; a file that torch wrote before "
            "version 1.6 must be loaded and saved once with a newer torch."
        ) from error
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise UserError(f"{path}: not a readable file of tensors (compressed records). Fetch it again.")
    if sum(record.file_size for record in records) > size:
        raise UserError(f"{path}: not a readable file of tensors (records larger than the file). Fetch it again.")
