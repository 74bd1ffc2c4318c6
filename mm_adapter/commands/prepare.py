"""From a dataset's name to examples: the steps that training and evaluation share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.encoding import count_shortened, encode_questions
from data.prompts import Template
from data.question import Question
from mm_adapter.errors import UserError
from mm_adapter.examples import ExampleSet
from mm_adapter.model import MultimodalLlama
from mm_adapter.ranks import ALONE, Ranks
from mm_adapter.vision import extract_features
from mm_adapter.wheels import cache_folder


@dataclass(frozen=True)
class Prepared:
    """Examples of one split, and what became of the rest.

    Attributes:
        examples: ready for the model.
        skipped: pid -> reason of questions that had to be left out.
        shortened: questions whose context was cut to fit.
    """

    examples: ExampleSet
    skipped: dict[str, str]
    shortened: int


def prepare(
    model: MultimodalLlama,
    questions: Sequence[Question],
    skip_bad: bool = False,
    features: Path | None = None,
    progress: bool = True,
    ranks: Ranks = ALONE,
    template: Template | None = None,
) -> Prepared:
    """Encode questions as the model's adapter was taught, with image features where it takes pictures.

    Args:
        skip_bad: leave out questions with a bad picture or too much text, by name, instead of stopping.
        features: folder of the feature store; the cache folder by default.
        ranks: the processes that share the work of image features.
        template: another one than the model was taught.

    Raises:
        UserError: a question that cannot be used, unless ``skip_bad``; or none is left.
    """
    skipped: dict[str, str] = {}
    found: dict[Path, Tensor] = {}
    if model.vision is not None:
        images = [question.image for question in questions if question.image is not None]
        if images:
            store = features or cache_folder() / "features"
            found, bad = extract_features(model.tower, images, store, skip_bad=skip_bad, progress=progress, ranks=ranks)
            skipped = {q.pid: bad[q.image] for q in questions if q.image in bad}
    usable = [question for question in questions if question.pid not in skipped]
    encoded, too_long = encode_questions(
        usable, template or model.template, model.tokenizer, model.max_length, skip_bad
    )
    skipped |= too_long
    if not encoded:
        raise UserError(
            f"none of the {len(questions)} questions can be used: {next(iter(skipped.values()), 'no questions')}"
        )
    return Prepared(ExampleSet(encoded, found), skipped, count_shortened(encoded))


def check_device(name: str) -> None:
    """Make sure that ``name`` is a device of this machine.

    Raises:
        UserError: there is no such device.
    """
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used ({reason}). Choose one that this machine has.") from None


def without_images(questions: Sequence[Question]) -> list[Question]:
    """Return the same questions as if no picture went with them."""
    return [replace(question, image=None) for question in questions]
