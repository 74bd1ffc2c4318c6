"""Questions whose answer only the picture tells.

They come in blocks: one wording with one order of its options, once for every option as the right one, each time with
another picture. Whatever a reader of the text alone answers, it is right for exactly one question of the block; so
without the picture accuracy is exactly chance, in every split.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from random import Random

import numpy as np
from PIL import Image

from mm_adapter.data.demo.draft import Draft
from mm_adapter.data.demo.drawing import (
    FRUIT_COLOURS,
    POINTS_TO,
    draw_compass,
    draw_digit,
    draw_magnets,
    draw_sales,
    draw_shape,
    draw_thermometer,
    draw_traffic_light,
)

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_SHARE = 0.7

Draw = Callable[[str, Sequence[str], Random], Image.Image]
DigitSample = tuple[int, np.ndarray]
"""Index of a sample in scikit-learn's digits, and its ``(8, 8)`` grid."""


@dataclass(frozen=True)
class Family:
    """Picture questions of one kind.

    Attributes:
        wordings: ways to ask; one is chosen for a block.
        things: what a picture can show.
        phrase: how a thing is written as an option, with ``{}`` for the thing (or its entry in ``names``).
        counts: how many options a question may have.
        draw: makes the picture of a thing; None for digits, whose pictures come from samples.
    """

    wordings: tuple[str, ...]
    things: tuple[str, ...]
    counts: tuple[int, ...]
    subject: str
    topic: str
    category: str
    skill: str
    grades: tuple[int, int]
    draw: Draw | None = None
    phrase: str = "{}"
    names: Mapping[str, str] | None = None
    context: str = ""
    lecture: str = ""

    def option(self, thing: str) -> str:
        """Return how ``thing`` reads as an option."""
        return self.phrase.format(self.names[thing] if self.names else thing)


def _digits(subject: str, topic: str, category: str, skill: str, *wordings: str, phrase: str = "{}") -> Family:
    return Family(wordings, NUMBER_WORDS, (5, 4, 3, 5, 4), subject, topic, category, skill, (1, 12), phrase=phrase)


NATURAL, SOCIAL, LANGUAGE = "natural science", "social science", "language science"

DIGIT_FAMILIES = (
    _digits(
        *(NATURAL, "units-and-measurement", "Units and measurement", "Read a number"),
        *("Which number is written in the picture?", "What does the counter in the picture show?"),
    ),
    _digits(
        *(SOCIAL, "economics", "Basic economic principles", "Read a price"),
        *("Which price is on the tag in the picture?", "How many coins does the toy in the picture cost?"),
    ),
    _digits(
        *(LANGUAGE, "reference-skills", "Research skills", "Find the word for a number"),
        *("Which word names the number in the picture?", "Which page number is in the picture?"),
    ),
    _digits(
        *(NATURAL, "science-and-engineering-practices", "Observations", "Describe a handwritten note"),
        "Which sentence about the picture is true?",
        phrase="The number is {}.",
    ),
)

DIAGRAM_FAMILIES = (
    Family(
        wordings=("Which shape is in the picture?", "Which shape did the engineer draw?"),
        things=("circle", "square", "triangle", "star"),
        counts=(4, 3),
        draw=lambda thing, _, rng: draw_shape(thing, rng),
        subject=NATURAL,
        topic="science-and-engineering-practices",
        category="Designing solutions",
        skill="Identify a shape",
        grades=(1, 8),
    ),
    Family(
        wordings=("Which fruit was sold most?", "Which fruit does the chart show the most of?"),
        things=tuple(FRUIT_COLOURS),
        counts=(3, 4),
        draw=draw_sales,
        subject=SOCIAL,
        topic="economics",
        category="Supply and demand",
        skill="Read a bar chart",
        grades=(2, 10),
        context="The chart has one bar for each fruit, in the color of the fruit.",
        lecture="In a bar chart the longest bar stands for the largest amount.",
    ),
    Family(
        wordings=("What will these magnets do?",),
        things=("attract", "repel"),
        counts=(2,),
        draw=lambda thing, _, rng: draw_magnets(thing == "attract", rng),
        phrase="{} each other",
        subject=NATURAL,
        topic="physics",
        category="Magnets",
        skill="Predict the force between magnets",
        grades=(3, 12),
        context="North poles are red and south poles are blue.",
        lecture="Opposite poles attract each other. Equal poles repel each other.",
    ),
    Family(
        wordings=("What is the weather like?", "How warm is it outside?"),
        things=("hot", "mild", "cold"),
        counts=(3, 2),
        draw=lambda thing, _, rng: draw_thermometer(thing, rng),
        subject=NATURAL,
        topic="earth-science",
        category="Weather and climate",
        skill="Read a thermometer",
        grades=(1, 6),
        lecture="A thermometer shows how warm it is: the higher its column, the warmer.",
    ),
    Family(
        wordings=("What does the traffic light tell the driver?",),
        things=("red", "yellow", "green"),
        counts=(3, 2),
        draw=lambda thing, _, rng: draw_traffic_light(thing, rng),
        names={"red": "stop", "yellow": "get ready", "green": "go"},
        subject=SOCIAL,
        topic="civics",
        category="Rules and laws",
        skill="Follow a traffic light",
        grades=(1, 4),
        lecture="Red means stop, yellow means get ready, and green means go.",
    ),
    Family(
        wordings=("In which direction does the arrow point?", "Which way does the compass point?"),
        things=tuple(POINTS_TO),
        counts=(4, 2, 3),
        draw=lambda thing, _, rng: draw_compass(thing, rng),
        subject=SOCIAL,
        topic="geography",
        category="Maps",
        skill="Use cardinal directions",
        grades=(1, 9),
        lecture="On most maps north is up, south is down, east is right and west is left.",
    ),
)


def draft_visual(count: int, samples: Mapping[int, Sequence[DigitSample]], rng: Random) -> list[Draft]:
    """Return ``count`` questions in whole blocks, or one less where a single one would be left over.

    Args:
        samples: digit 0 to 9 -> the samples that may be shown; each is used once before any is used again.
    """
    supplies = {NUMBER_WORDS[digit]: cycle(rng.sample(list(own), len(own))) for digit, own in samples.items()}
    digits, diagrams = _in_turn(DIGIT_FAMILIES, rng), _in_turn(DIAGRAM_FAMILIES, rng)
    drafts: list[Draft] = []
    shown = 0
    while count - len(drafts) >= 2:
        is_digit = shown <= DIGIT_SHARE * len(drafts)
        family = next(digits if is_digit else diagrams)
        options = min(rng.choice(family.counts), count - len(drafts))
        drafts += _block(family, options, supplies, rng)
        shown += options if is_digit else 0
    return drafts


def _block(family: Family, count: int, supplies: Mapping[str, Iterator[DigitSample]], rng: Random) -> Iterator[Draft]:
    things = rng.sample(family.things, count)
    wording, grade = rng.choice(family.wordings), rng.randint(*family.grades)
    for answer, thing in enumerate(things):
        seed = rng.getrandbits(64)
        if family.draw is None:
            index, grid = next(supplies[thing])
            picture: Callable[[], Image.Image] = partial(_drawn_digit, grid, seed)
            source = f"digit {thing}, scikit-learn digits sample {index}"
        else:
            picture = partial(_drawn, family.draw, thing, things, seed)
            source = f"diagram, {family.skill.lower()}: {thing}"
        yield Draft(
            question=wording,
            options=tuple(family.option(thing) for thing in things),
            answer=answer,
            subject=family.subject,
            topic=family.topic,
            category=family.category,
            skill=family.skill,
            grade=grade,
            context=family.context,
            lecture=family.lecture,
            solution=f"The picture tells it: {family.option(thing).rstrip('.')}.",
            picture=picture,
            picture_source=source,
        )


def _drawn_digit(grid: np.ndarray, seed: int) -> Image.Image:
    return draw_digit(grid, Random(seed))


def _drawn(draw: Draw, thing: str, things: Sequence[str], seed: int) -> Image.Image:
    return draw(thing, things, Random(seed))


def _in_turn(families: Sequence[Family], rng: Random) -> Iterator[Family]:
    return cycle(rng.sample(list(families), len(families)))
