"""Pictures that untrusted records name: inside their folder, or refused."""

import os
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from mm_adapter.data.record import BadRecord, kind_of


def is_plain(part: str) -> bool:
    """Whether ``part`` is one step of a path: no separator of any system, no drive, no way up, nothing unprintable."""
    return part not in ("", ".", "..") and part.isprintable() and not set(part) & set("/\\:")


def find_picture(folder: Path, name: Any) -> Path:
    """Return the picture that a record names relative to ``folder``.

    Raises:
        BadRecord: the name is no text, leads out of the folder, be it by a link, or no file is there.
    """
    if not isinstance(name, str):
        raise BadRecord(f"has {kind_of(name)} in 'image' where a file name belongs")
    if not all(map(is_plain, name.split("/"))):
        raise BadRecord(f"names a picture outside the image folder: {shortened(name)}")
    path = folder / name
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):
        raise BadRecord(f"names a picture outside the image folder, through a link: {path}")
    if not os.path.isfile(path):
        raise BadRecord(f"names a picture that is missing: {path}")
    return path
