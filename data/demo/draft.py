"""One question of the generated set before it has a pid and a split."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Draft:
    """What a family of questions makes; the names are those of `mm_adapter.data.question.Question`.

    Attributes:
        picture: draws the picture when it is to be written, or None.
        picture_source: what is in the picture and where it is from; written beside the question, shown to no model.
    """

    question: str
    options: tuple[str, ...]
    answer: int
    subject: str
    topic: str
    category: str
    skill: str
    grade: int
    context: str = ""
    lecture: str = ""
    solution: str = ""
    picture: Callable[[], Image.Image] | None = None
    picture_source: str = ""
