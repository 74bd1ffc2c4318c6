"""The container of a GGUF file: metadata and the table of tensors, every length checked before it is believed.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

import math
import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import refuse_pointer

_NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1", 10: "<u8", 11: "<i8"}
_NUMBERS |= {12: "<f8"}
_STRING, _ARRAY = 8, 9
_LONGEST_KEY, _MOST_ITEMS, _MOST_AXES = 1 << 16, 1 << 22, 4
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MOST_PARTS = 10000


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor lies.

    Attributes:
        shape: outermost axis first, the reverse of the file's order.
        kind: of quantisation.
        blocks: ``(rows, bytes of a row)`` uint8, mapped.
        path: of the file, or part of one, in which it lies.
    """

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    blocks: np.ndarray
    path: Path


@dataclass(frozen=True)
class GGUFFile:
    """An opened file.

    Attributes:
        path: of the file.
        values: metadata by key: numbers, strings, and lists of them.
        tensors: by name, in the order of the file.
    """

    path: Path
    values: dict[str, Any]
    tensors: dict[str, GGUFTensor]


class _Damage(Exception):
    """Something in the file that cannot be right."""


def read_gguf(path: Path) -> GGUFFile:
    """Map a file and read its header; of a file that was split, those of all parts, which lie beside it.

    Raises:
        UserError: the file or a part is missing, truncated, not GGUF, or says something about itself that cannot be.
    """
    refuse_pointer(path)
    file = _read_one(path)
    return file if file.values.get("split.count", 0) in (0, 1) else _join(file)


def are_parts(paths: Sequence[Path]) -> bool:
    """Tell whether files are parts of one model, by their names."""
    found = [_PART.fullmatch(path.name) for path in paths]
    return len({(match["stem"], match["count"]) for match in found if match is not None}) == 1 and all(found)


def _join(one: GGUFFile) -> GGUFFile:
    """Return the model of which ``one`` is a part: the metadata of the first part, and the tensors of all."""
    number, count = one.values.get("split.no"), one.values["split.count"]
    if type(number) is not int or type(count) is not int or not 0 <= number < count <= _MOST_PARTS:
        raise UserError(f"{one.path}: not a readable GGUF file (part {number!r} of {count!r}). Fetch it again.")
    named = _PART.fullmatch(one.path.name)
    advice = "Put all parts into one folder, or join them with llama-gguf-split --merge."
    where = f"{one.path}: part {number + 1} of {count} of a model"
    if named is None or (int(named["number"]), int(named["count"])) != (number + 1, count):
        raise UserError(f"{where}, but its name does not end in -{number + 1:05d}-of-{count:05d}.gguf. {advice}")
    paths = [one.path.with_name(f"{named['stem']}-{place:05d}-of-{count:05d}.gguf") for place in range(1, count + 1)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{where}; {', '.join(missing[:3])}{rest} missing beside it. {advice}")
    for path in paths:
        refuse_pointer(path)
    parts = [_read_one(path) for path in paths]
    tensors: dict[str, GGUFTensor] = {}
    for place, part in enumerate(parts):
        total = part.values.get("split.tensors.count", one.values.get("split.tensors.count"))
        same = (part.values.get("split.no"), part.values.get("split.count")) == (place, count)
        if not same or total != one.values.get("split.tensors.count") or tensors.keys() & part.tensors.keys():
            raise UserError(f"{part.path}: not a part of the same model as {one.path.name}. Fetch the parts again.")
        tensors |= part.tensors
    if one.values.get("split.tensors.count", len(tensors)) != len(tensors):
        raise UserError(f"{where} of {one.values['split.tensors.count']} tensors, but all parts hold {len(tensors)}.")
    return GGUFFile(parts[0].path, parts[0].values, tensors)


def _read_one(path: Path) -> GGUFFile:
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _Header(mapped, path).read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such model file.") from None
    except (_Damage, ValueError, OSError) as error:  # ValueError: an empty file, text that is not UTF-8
        raise UserError(f"{path}: not a readable GGUF file ({error}). It may be truncated; fetch it again.") from error


class _Header:
    """A cursor over the mapped file that never goes past its end."""

    def __init__(self, mapped: mmap.mmap, path: Path) -> None:
        self.mapped = mapped
        self.path = path
        self.size = len(mapped)
        self.place = 0

    def read(self) -> GGUFFile:
        """Read all of the header and map the tensors."""
        if self._take(4) != b"GGUF":
            raise _Damage("it does not begin with GGUF")
        version = self._number("<I")
        if version not in (2, 3):
            big_endian = version and version & 0xFFFF == 0
            raise _Damage("it is big-endian" if big_endian else f"version {version}; 2 and 3 can be read")
        tensor_count, value_count = self._number("<Q"), self._number("<Q")
        # The least that an entry takes: a name's length, then type and value, or axes, one size, kind and offset.
        if tensor_count > self._left() // 32 or value_count > self._left() // 13:
            raise _Damage(f"{tensor_count} tensors and {value_count} keys do not fit into it")
        values: dict[str, Any] = {}
        for _ in range(value_count):
            key = self._string(_LONGEST_KEY)
            if key in values:
                raise _Damage(f"the key {key} stands twice")
            values[key] = self._value(key, self._number("<I"))
        entries = [self._entry() for _ in range(tensor_count)]
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise _Damage(f"general.alignment is {alignment!r}, not a power of two")
        start = -(-self.place // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset in entries:
            if name in tensors:
                raise _Damage(f"the tensor {name} stands twice")
            tensors[name] = self._tensor(name, shape, kind, start + offset)
        return GGUFFile(self.path, values, tensors)

    def _left(self) -> int:
        return self.size - self.place

    def _take(self, count: int) -> bytes:
        if count > self._left():
            raise _Damage(f"it ends at byte {self.size}, {count} more were announced at {self.place}")
        self.place += count
        return self.mapped[self.place - count : self.place]

    def _number(self, layout: str) -> int:
        return int(struct.unpack(layout, self._take(struct.calcsize(layout)))[0])

    def _string(self, longest: int) -> str:
        length = self._number("<Q")
        if length > longest:
            raise _Damage(f"a text of {length} bytes at {self.place}")
        return self._take(length).decode("utf-8")

    def _value(self, key: str, kind: int) -> Any:
        if kind in _NUMBERS:
            return np.frombuffer(self._take(np.dtype(_NUMBERS[kind]).itemsize), _NUMBERS[kind])[0].item()
        if kind == _STRING:
            return self._string(self._left())
        if kind != _ARRAY:
            raise _Damage(f"the key {key} has the unknown type {kind}")
        inner, count = self._number("<I"), self._number("<Q")
        least = np.dtype(_NUMBERS[inner]).itemsize if inner in _NUMBERS else 8
        if count > _MOST_ITEMS or count * least > self._left():
            raise _Damage(f"the key {key} announces {count} items")
        if inner in _NUMBERS:
            return np.frombuffer(self._take(count * least), _NUMBERS[inner]).tolist()
        if inner != _STRING:
            raise _Damage(f"the key {key} is a list of the unknown type {inner}")
        return self._strings(key, count)

    def _strings(self, key: str, count: int) -> list[str]:
        # A vocabulary has half a million of them with its merges: what `_string` does, with few calls.
        mapped, place, unpack = self.mapped, self.place, struct.Struct("<Q").unpack_from
        texts = []
        for _ in range(count):
            if place + 8 > self.size:
                raise _Damage(f"it ends within the list {key}")
            begin = place + 8
            place = begin + unpack(mapped, place)[0]
            if place > self.size:
                raise _Damage(f"it ends within the list {key}")
            texts.append(mapped[begin:place].decode("utf-8"))
        self.place = place
        return texts

    def _entry(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self._string(_LONGEST_KEY)
        axes = self._number("<I")
        if not 1 <= axes <= _MOST_AXES:
            raise _Damage(f"the tensor {name} has {axes} axes")
        shape = tuple(self._number("<Q") for _ in range(axes))
        kind, offset = self._number("<I"), self._number("<Q")
        try:
            return name, shape[::-1], GGMLQuantizationType(kind), offset
        except ValueError:
            raise _Damage(f"the tensor {name} is of the unknown kind {kind}") from None

    def _tensor(self, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType, start: int) -> GGUFTensor:
        values, size = GGML_QUANT_SIZES[kind]
        if min(shape) < 1 or shape[-1] % values:
            raise _Damage(f"the tensor {name} of kind {kind.name} has shape {shape}")
        rows, width = math.prod(shape[:-1]), shape[-1] // values * size
        if start + rows * width > self.size:
            raise _Damage(f"the tensor {name} ends at byte {start + rows * width}, the file at {self.size}")
        blocks = np.frombuffer(self.mapped, np.uint8, rows * width, start).reshape(rows, width)
        return GGUFTensor(shape, kind, blocks, self.path)
