"""Where on a picture the tiles and tokens of a tower lie."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from mm_adapter.vision import ImageTower

_LONGEST = 512  # pixels of the ramps: what is cut off depends on the proportions


@dataclass(frozen=True)
class ViewMap:
    """Shares of attention over one view of a picture.

    Attributes:
        view: its name, see ``VisionConfig``.
        box: what of the picture the view shows: left, top, right, bottom, as shares of its width and height.
        shares: ``(rows, columns)`` float32.
    """

    view: str
    box: tuple[float, float, float, float]
    shares: Tensor


def view_maps(tower: ImageTower, shares: Tensor, size: tuple[int, int]) -> list[ViewMap]:
    """Lay out shares over the views of a picture, each view a grid; views of one cell alone tell nothing of places.

    Args:
        shares: ``(T,)`` of the tower's tokens, or ``(P,)`` of the parts of its global features, each in its order: all
            of a tile, then of the next one.
        size: width and height of the picture.

    Returns:
        A map for each view that has places; none where the tokens of a tile are no square grid.
    """
    views = tower.config.views
    counts = [1 if view == "own" else int(view[0]) for view in views]
    tiles = shares.view(sum(count * count for count in counts), -1).float()  # (tiles, tokens or parts of a tile)
    grid = _grid(tiles) if tower.config.output == "tokens" else tiles.sum(dim=1)[:, None, None]
    if grid is None:
        return []
    parts = grid.split([count * count for count in counts])
    found = []
    for view, count, own in zip(views, counts, parts, strict=True):
        side = own.shape[-1]
        laid = own.view(count, count, side, side).transpose(1, 2).reshape(count * side, count * side)
        if laid.numel() > 1:
            found.append(ViewMap(view, shown_box(tower, size) if view == "own" else (0.0, 0.0, 1.0, 1.0), laid.cpu()))
    return found


def _grid(tokens: Tensor) -> Tensor | None:
    """Return ``(tiles, side, side)`` of tokens ``(tiles, t)``, with or without a class token in front."""
    for first in (0, 1):
        side = math.isqrt(tokens.shape[1] - first)
        if side * side == tokens.shape[1] - first:
            return tokens[:, first:].view(-1, side, side)
    return None


def shown_box(tower: ImageTower, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return what the tower's own preprocessing leaves of a picture ``(width, height)``: left, top, right, bottom.

    Found by having it prepare ramps of brightness: what it crops is nowhere said in a form that all towers share.
    """
    scale = min(1.0, _LONGEST / max(size))
    width, height = (max(1, round(length * scale)) for length in size)
    ends = [next(_own(tower, Image.new("RGB", (width, height), (level,) * 3))) for level in (0, 255)]
    across, down = (
        next(_own(tower, _ramp(width, height, axis))).sub(ends[0]).div(ends[1] - ends[0]).mean(dim=0) for axis in (0, 1)
    )  # (size, size) each, 0 to 1
    (left, right), (top, bottom) = _edges(across.mean(dim=0), width), _edges(down.mean(dim=1), height)
    return left, top, right, bottom


def _own(tower: ImageTower, image: Image.Image) -> Iterator[Tensor]:
    """Yield the tower's own views of a picture, ``(3, size, size)``."""
    place = 0
    views = tower.preprocess(image)
    for view in tower.config.views:
        if view == "own":
            yield views[place]
        place += 1 if view == "own" else int(view[0]) ** 2


def _ramp(width: int, height: int, axis: int) -> Image.Image:
    length = (width, height)[axis]
    levels = torch.linspace(0, 255, length).round().to(torch.uint8)
    grey = levels[None].expand(height, width) if axis == 0 else levels[:, None].expand(height, width)
    return Image.fromarray(grey.contiguous().numpy(), "L").convert("RGB")


def _edges(seen: Tensor, length: int) -> tuple[float, float]:
    """Return the outer edges, as shares of ``length`` pixels, of a line that saw brightness ``(size,)`` on a ramp."""
    places = (seen * (length - 1) + 0.5) / length
    first, last = float(places[0]), float(places[-1])
    half = (last - first) / (len(places) - 1) / 2
    return round(max(0.0, first - half), 3), round(min(1.0, last + half), 3)
