"""Thumbnails for a page: small, each picture once, within a budget of bytes."""

import base64
import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import open_image

BUDGET = 40_000_000
"""Bytes of all thumbnails of a page, as base64."""

_SIZES = ((1500, 320, 70), (5000, 200, 50), (12000, 144, 35))  # up to so many pictures: side in pixels, quality
_SMALLEST = (112, 25)


@dataclass(frozen=True)
class Thumbnails:
    """Small pictures.

    Attributes:
        images: as ``data:`` addresses, each different picture once.
        place: for each file asked for, the index in ``images``; -1 where there is none.
        left_out: files that could not be opened or had no room -> why.
    """

    images: tuple[str, ...]
    place: tuple[int, ...]
    left_out: dict[str, str]


def thumbnails(files: Sequence[Path | None], budget: int = BUDGET) -> Thumbnails:
    """Make small pictures of files, smaller the more there are.

    Args:
        files: a file, or None for a question without picture.
        budget: bytes of all of them; what has no room is left out and counted.
    """
    asked = list(dict.fromkeys(file for file in files if file is not None))
    side, quality = next(((side, quality) for most, side, quality in _SIZES if len(asked) <= most), _SMALLEST)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = dict(zip(asked, pool.map(lambda file: _thumbnail(file, side, quality), asked), strict=True))
    images: list[str] = []
    known: dict[str, int] = {}
    place_of: dict[Path, int] = {}
    left_out: dict[str, str] = {}
    used = 0
    for file, found in made.items():
        if found.startswith("!"):
            left_out[str(file)] = found[1:]
            continue
        digest = hashlib.sha256(found.encode()).hexdigest()
        if digest not in known:
            if used + len(found) > budget:
                left_out[str(file)] = "no room in the page"
                continue
            used += len(found)
            known[digest] = len(images)
            images.append(found)
        place_of[file] = known[digest]
    return Thumbnails(tuple(images), tuple(-1 if f is None else place_of.get(f, -1) for f in files), left_out)


def _thumbnail(file: Path, side: int, quality: int) -> str:
    """Return a ``data:`` address, or ``!`` and why there is none."""
    try:
        image = open_image(file)
        image.thumbnail((side, side), reducing_gap=2.0)
        buffer = io.BytesIO()
        image.save(buffer, format="WEBP", quality=quality, method=2)
    except (UserError, OSError, ValueError) as error:
        return f"!{error}"
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
