"""What probes change: the pictures of questions, and their context.

Changed pictures are files of their own, so that every system sees them as it sees any picture, and whatever it keeps by
a picture's content never takes one for the other.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageFilter

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import content_hash, open_image
from mm_adapter.data.question import Question
from mm_adapter.eval.probes.asking import Probe

GREY = (128, 128, 128)
BLUR = 1 / 16
SCALE = 8


def _blank(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, GREY)


def _blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(min(picture.size) * BLUR))


def _downscaled(picture: Image.Image) -> Image.Image:
    width, height = (max(1, side // SCALE) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


PICTURE_CHANGES: dict[str, tuple[str, Callable[[Image.Image], Image.Image] | None]] = {
    "blank": ("the picture is plain grey of the same size", _blank),
    "shuffled": ("the picture is another question's", None),
    "none": ("the question comes without its picture", None),
    "blur": ("the picture is blurred over a sixteenth of its shorter side", _blurred),
    "downscale": (f"the picture has 1/{SCALE} of its width and height, enlarged again", _downscaled),
}
"""Probe -> what it does, and the change of pixels where it is one."""


def picture_probe(name: str, folder: Path, seed: int = 0) -> Probe:
    """Return the probe ``name`` of ``PICTURE_CHANGES``.

    Args:
        folder: where changed pictures are written; it must outlive what the system does with them.
        seed: of the order in which pictures change places.
    """
    text, change = PICTURE_CHANGES[name]
    if name == "none":
        return Probe(name, text, lambda questions: [replace(question, image=None) for question in questions])
    if change is None:
        return Probe(name, text, lambda questions: another_picture(questions, seed))
    return Probe(name, text, lambda questions: [_changed(question, change, folder / name) for question in questions])


def _changed(question: Question, change: Callable[[Image.Image], Image.Image], folder: Path) -> Question:
    if question.image is None:
        return question
    path = folder / f"{content_hash(question.image)}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        change(open_image(question.image)).save(path, compress_level=1)
    return replace(question, image=path)


def another_picture(questions: Sequence[Question], seed: int = 0) -> list[Question]:
    """Give every question with a picture that of another one: a derangement, each picture used once.

    Many questions may share one picture, under one name or several. Where no picture belongs to more than half of them,
    none gets the same picture again. Where one does, some of its questions keep it.

    Raises:
        UserError: a picture cannot be read.
    """
    holders = [index for index, question in enumerate(questions) if question.image is not None]
    random.Random(seed).shuffle(holders)
    same: dict[str, list[int]] = {}
    for index in holders:
        image = questions[index].image
        if image is not None:
            same.setdefault(content_hash(image), []).append(index)
    # Equal pictures stand side by side; a step as long as the longest such run leads out of every one.
    order = [index for group in same.values() for index in group]
    step = max(map(len, same.values()), default=0)
    result = list(questions)
    for here, there in zip(order, order[step:] + order[:step], strict=True):
        result[here] = replace(questions[here], image=questions[there].image)
    return result


def pictures_differ(questions: Sequence[Question]) -> bool:
    """Return whether any two pictures are different files, or one cannot be read, which is for others to say."""
    first = None
    for question in questions:
        if question.image is None:
            continue
        try:
            found = content_hash(question.image)
        except UserError:
            return True
        first = first or found
        if found != first:
            return True
    return False


def without_context() -> Probe:
    """Return the probe that takes away the text which goes with a question."""
    text = "the text that goes with the question is taken away"
    return Probe("no-context", text, lambda questions: [replace(question, context="") for question in questions])
