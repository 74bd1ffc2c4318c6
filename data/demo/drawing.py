"""The pictures of the generated set: handwritten digits and diagrams, one large clear attribute each.

A frozen image tower sees only a global feature, so what is asked about fills the frame: no fine print, no small parts.
Every function takes its randomness from ``rng``, so the same seed gives the same pixels.
"""

import math
from collections.abc import Sequence
from random import Random

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128
Colour = tuple[int, int, int]

RED, ORANGE, YELLOW, GREEN = (212, 40, 38), (238, 126, 24), (248, 206, 40), (52, 160, 60)
BLUE, PURPLE, GREY, BLACK, WHITE = (40, 84, 200), (128, 52, 160), (120, 120, 124), (24, 24, 28), (255, 255, 255)

LIGHT: tuple[Colour, ...] = (WHITE, (250, 244, 226), (230, 242, 252), (232, 248, 232), (252, 232, 236), (238, 238, 242))
PAPERS: tuple[Colour, ...] = (WHITE, (252, 248, 238), (242, 247, 253), (243, 250, 243), (244, 244, 246))
INKS: tuple[Colour, ...] = (BLACK, (24, 30, 60), (54, 22, 26), (20, 42, 28), (42, 26, 52))
FRUIT_COLOURS: dict[str, Colour] = {"apples": RED, "bananas": YELLOW, "grapes": PURPLE, "kiwis": GREEN}
POINTS_TO = {"north": -90, "east": 0, "south": 90, "west": 180}


def draw_digit(grid: np.ndarray, rng: Random) -> Image.Image:
    """Return a handwritten digit that fills the frame, in dark ink on light paper.

    Args:
        grid: ``(8, 8)`` ink of a scikit-learn digit, 0 to 16.
    """
    size = rng.randrange(112, 161, 8)
    # Never light on dark: with both, a linear reader of EfficientNet-Lite0's features falls from 94 to 84 % on digits.
    paper, ink = rng.choice(PAPERS), rng.choice(INKS)
    # A margin of one cell: the strokes of the samples run into their edges.
    mask = Image.fromarray(np.pad(np.clip(grid, 0, 16) * (255 / 16), 1).astype(np.uint8))
    # Smooth enlargement, then a steep curve: strokes with an edge instead of a blur.
    mask = mask.resize((size, size), Image.Resampling.BICUBIC).point([_steepen(value) for value in range(256)])
    return Image.composite(Image.new("RGB", mask.size, ink), Image.new("RGB", mask.size, paper), mask)


def draw_shape(shape: str, rng: Random) -> Image.Image:
    """Return one large filled ``circle``, ``square``, ``triangle`` or ``star``."""
    image, pen = _canvas(rng)
    centre, radius = SIZE / 2, rng.uniform(48, 56)
    colour = rng.choice((RED, BLUE, PURPLE))
    if shape == "circle":
        pen.ellipse((centre - radius, centre - radius, centre + radius, centre + radius), fill=colour)
    elif shape == "star":
        radii = [radius * (1.05 if corner % 2 == 0 else 0.42) for corner in range(10)]
        pen.polygon(_corners(radii, start=-90), fill=colour)
    else:
        corners, start, scale = {"square": (4, 45, 1.15), "triangle": (3, -90, 1.15)}[shape]
        pen.polygon(_corners([radius * scale] * corners, start), fill=colour)
    return image


def draw_sales(most: str, fruits: Sequence[str], rng: Random) -> Image.Image:
    """Return a bar chart of ``fruits``, each bar in its fruit's colour; that of ``most`` towers above the others."""
    image, pen = _canvas(rng)
    width = (SIZE - 12) / len(fruits)
    for place, fruit in enumerate(rng.sample(list(fruits), len(fruits))):
        height = rng.uniform(100, 114) if fruit == most else rng.uniform(8, 22)
        left = 8 + place * width
        pen.rectangle((left, SIZE - 8 - height, left + width - 5, SIZE - 8), fill=FRUIT_COLOURS[fruit])
    pen.line((4, SIZE - 7, SIZE - 4, SIZE - 7), fill=BLACK, width=3)
    return image


def draw_magnets(attract: bool, rng: Random) -> Image.Image:
    """Return two bar magnets end to end, north poles red and south poles blue; south poles face each other to repel."""
    image, pen = _canvas(rng)
    colours = (RED, BLUE, RED, BLUE) if attract else (RED, BLUE, BLUE, RED)
    top, length = rng.randrange(20, 36), 29
    for place, colour in enumerate(colours):
        left = 4 + place * length + (4 if place >= 2 else 0)
        pen.rectangle((left, top, left + length - 1, top + 72), fill=colour)
    return image


def draw_thermometer(weather: str, rng: Random) -> Image.Image:
    """Return a thermometer: ``hot`` is full and red, ``mild`` half full and green, ``cold`` nearly empty and blue."""
    image, pen = _canvas(rng)
    share, colour = {"hot": (0.92, RED), "mild": (0.5, GREEN), "cold": (0.1, BLUE)}[weather]
    centre, top, bottom = rng.randrange(54, 75), 8, 88
    level = bottom - (bottom - top) * (share + rng.uniform(-0.05, 0.05))
    pen.rounded_rectangle((centre - 16, top - 4, centre + 16, bottom + 16), 16, fill=WHITE, outline=BLACK, width=3)
    pen.rectangle((centre - 10, level, centre + 10, bottom + 14), fill=colour)
    pen.ellipse((centre - 26, bottom - 16, centre + 26, bottom + 36), fill=colour, outline=BLACK, width=3)
    return image


def draw_traffic_light(lamp: str, rng: Random) -> Image.Image:
    """Return a traffic light on which one lamp is lit: ``red`` (top), ``yellow`` or ``green`` (bottom)."""
    image, pen = _canvas(rng)
    centre = rng.randrange(58, 71)
    pen.rounded_rectangle((centre - 26, 2, centre + 26, SIZE - 2), 10, fill=BLACK)
    for place, (name, colour) in enumerate((("red", RED), ("yellow", YELLOW), ("green", GREEN))):
        top = 8 + place * 40
        pen.ellipse((centre - 17, top, centre + 17, top + 34), fill=colour if name == lamp else (60, 60, 64))
    return image


def draw_compass(direction: str, rng: Random) -> Image.Image:
    """Return one thick arrow on a disc, pointing up for ``north`` as on a map."""
    image, pen = _canvas(rng)
    pen.ellipse((2, 2, SIZE - 3, SIZE - 3), fill=WHITE, outline=BLACK, width=3)
    arrow = ((54, 0), (6, 44), (6, 16), (-52, 16), (-52, -16), (6, -16), (6, -44))
    angle = math.radians(POINTS_TO[direction] + rng.uniform(-8, 8))
    turned = [
        (SIZE / 2 + x * math.cos(angle) - y * math.sin(angle), SIZE / 2 + x * math.sin(angle) + y * math.cos(angle))
        for x, y in arrow
    ]
    pen.polygon(turned, fill=rng.choice((RED, BLUE, GREEN, BLACK)))
    return image


def _canvas(rng: Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIZE, SIZE), rng.choice(LIGHT))
    return image, ImageDraw.Draw(image)


def _corners(radii: Sequence[float], start: float) -> list[tuple[float, float]]:
    """Return the corners at ``radii`` around the middle, evenly turned from ``start`` degrees (-90 is up)."""
    turns = [math.radians(start + 360 * corner / len(radii)) for corner in range(len(radii))]
    return [
        (SIZE / 2 + radius * math.cos(turn), SIZE / 2 + radius * math.sin(turn))
        for radius, turn in zip(radii, turns, strict=True)
    ]


def _steepen(value: int) -> int:
    return round(min(max((value / 255 - 0.3) * 2.2, 0.0), 1.0) * 255)
