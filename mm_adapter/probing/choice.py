"""Which probes there are, which were asked for, and which of them say anything about a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.question import Dataset, Question
from mm_adapter.data.templates import QuestionTemplate
from mm_adapter.eval.probes.asking import pictured_pids
from mm_adapter.eval.probes.changes import PICTURE_CHANGES, pictures_differ

if TYPE_CHECKING:
    from mm_adapter.model import MultimodalLlama

PROBES = (*PICTURE_CHANGES, "no-context", "rotations", "labels", "gates", "attention", "neighbours")


def choose_probes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the probes that ``names`` ask for, in the order of ``PROBES``; ``("all",)`` stays as it is.

    Raises:
        UserError: a probe is not known.
    """
    for name in names:
        if name != "all" and name not in PROBES:
            nearest = suggestion(name, PROBES)
            raise UserError(f"--probes {name!r} is not known{nearest}; all and {', '.join(PROBES)} are.")
    return ("all",) if "all" in names else tuple(name for name in PROBES if name in names)


def not_applied(model: "MultimodalLlama", dataset: Dataset, questions: Sequence[Question]) -> dict[str, str]:
    """Return probe -> why it says nothing about this model on these questions."""
    reasons: dict[str, str] = {}
    pictured = len(pictured_pids(questions))
    for name in PICTURE_CHANGES:
        if model.vision is None:
            reasons[name] = "the model takes no pictures."
        elif pictured == 0:
            reasons[name] = "no question has a picture."
        elif name == "shuffled" and pictured == 1:
            reasons[name] = "only one question has a picture, so there is no other one."
        elif name == "shuffled" and not pictures_differ(questions):
            reasons[name] = "all pictures are the same, so there is no other one."
    if not any(question.context for question in questions):
        reasons["no-context"] = "no question has a context."
    if model.template.answer_format != "letter":
        reasons["labels"] = "the model is taught to answer in the option's own words, not by its label."
    if model.adapter is None or model.adapter.gates is None:
        what = "the model has no adapter." if model.adapter is None else "random-init attention has no gates."
        reasons |= {"gates": what, "attention": what}
    try:
        train = dataset.split("train")
    except UserError:
        train = []
    if len(train) < 2:
        reasons["neighbours"] = "the data has no train split to compare with."
    return reasons


def notes(template: QuestionTemplate, applied: Sequence[str]) -> list[str]:
    """Return what a reader of the probes must know of the way in which the model is asked."""
    unlisted = not template.show_options and template.answer_format == "text"
    if "rotations" in applied and unlisted:
        return ["The model's template does not list the options and scores each by itself: their order cannot matter."]
    return []
