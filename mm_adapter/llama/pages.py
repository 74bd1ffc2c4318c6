"""Memory-mapped files whose pages go back to the system once they were read."""

import ctypes
import mmap
import sys
from pathlib import Path

from torch import Tensor

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
