"""What lies in the cache folder, by kind, and how it is cleared: what is not ours by its name is never touched."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import EFFICIENTNET_LITE0, SMOLLM2_135M, cache_folder

KINDS = {
    "features": "image features of training and evaluation; computed again",
    "images": "pictures that tables hold; written again when the table is read",
    "downloads": "pictures that tables name by URL; fetched again",
    "model": "the default language model and image tower; fetched again",
    "datasets": "other wheels, such as easy-VQA; fetched again",
}
"""Kind -> what it is, and what becomes of it when it is needed once more."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WHEEL = re.compile(r"[0-9a-f]{16}")
_STORE = re.compile(r".*-[0-9a-f]{12}(\.safetensors)?")
# What a process that was killed left of a file that it wrote, see `core.files.write_atomically`.
_LEFTOVER = re.compile(r"\.(.+)\.[a-z0-9_]{8}")


@dataclass
class CachePart:
    """All of one kind.

    Attributes:
        kind: see ``KINDS``.
        paths: files and folders, each whole of this kind.
        files: how many files these are.
        size: their bytes.
    """

    kind: str
    paths: list[Path] = field(default_factory=list)
    files: int = 0
    size: int = 0


def cache_parts(folder: Path | None = None) -> list[CachePart]:
    """Return what lies in the cache folder, one part for each kind, also of those that are empty.

    Args:
        folder: of the cache; by default the user's.

    Raises:
        UserError: the folder cannot be read.
    """
    folder = folder or cache_folder()
    parts = {kind: CachePart(kind) for kind in KINDS}
    try:
        for kind, path in _entries(folder):
            part = parts[kind]
            part.paths.append(path)
            for size in _sizes(path):
                part.files += 1
                part.size += size
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror}).") from error
    return list(parts.values())


def clear_cache(kinds: list[str], folder: Path | None = None) -> list[CachePart]:
    """Delete what lies in the cache folder of some kinds, and the folders that are empty then; return what was there.

    A link is deleted, and not what it leads to.

    Args:
        kinds: see ``KINDS``.
        folder: of the cache; by default the user's.

    Raises:
        UserError: something cannot be deleted; the rest may be gone.
    """
    folder = folder or cache_folder()
    found = [part for part in cache_parts(folder) if part.kind in kinds]
    try:
        for path in (path for part in found for path in part.paths):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            for parent in path.parents:
                if parent == folder or not parent.is_relative_to(folder):
                    break
                with contextlib.suppress(OSError):  # not empty
                    parent.rmdir()
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be deleted ({error.strerror}).") from error
    return found


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield kind and place of all that is ours by its name."""
    places = {"features": ("*", _STORE), "images": ("??/*", _DIGEST), "urls": ("*", _DIGEST)}
    for name, (pattern, known) in places.items():
        if (folder / name).is_symlink():
            continue  # the folder of somebody else, for all that is known
        for path in sorted((folder / name).glob(pattern)):
            if known.fullmatch(_finished(path.name)):
                yield "downloads" if name == "urls" else name, path
    default = {SMOLLM2_135M.cached.parent.name, EFFICIENTNET_LITE0.cached.parent.name}
    for path in sorted(folder.glob("*")):
        if _WHEEL.fullmatch(path.name) and path.is_dir():
            yield "model" if path.name in default else "datasets", path


def _finished(name: str) -> str:
    """Return the name that a file was to have, if it is the leftover of one."""
    found = _LEFTOVER.fullmatch(name)
    return name if found is None else found[1]


def _sizes(path: Path) -> Iterator[int]:
    """Yield the bytes of every file; links are not followed."""
    if not path.is_dir() or path.is_symlink():
        yield path.lstat().st_size
        return
    for inner in sorted(path.iterdir()):
        yield from _sizes(inner)
