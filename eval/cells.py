"""Cells of a table: questions by subject, context, grade, topic, skill and more, or by two of them crossed."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.question import Question
from mm_adapter.eval.intervals import Interval, clustered, wilson
from mm_adapter.eval.metrics import CLASSES, COLUMNS, NO_CLASS, percentage

_SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
_LENGTHS = ((0, "no words"), (25, "1-25 words"), (100, "26-100 words"), (float("inf"), "over 100 words"))


def _context(question: Question) -> tuple[str, ...]:
    # As the official evaluator has it: a question with both is in both.
    kinds = ("TXT",) * bool(question.context) + ("IMG",) * (question.image is not None)
    return kinds or ("NO",)


def _grade_band(question: Question) -> tuple[str, ...]:
    if not 1 <= question.grade <= 12:
        return ()
    return ("G1-6",) if question.grade <= 6 else ("G7-12",)


def _context_length(question: Question) -> tuple[str, ...]:
    words = len(question.context.split())
    return (next(name for most, name in _LENGTHS if words <= most),)


DIMENSIONS: dict[str, Callable[[Question], tuple[str, ...]]] = {
    "subject": lambda question: (_SUBJECTS.get(question.subject, question.subject or NO_CLASS),),
    "context": _context,
    "grade-band": _grade_band,
    "topic": lambda question: (question.topic or NO_CLASS,),
    "category": lambda question: (question.category or NO_CLASS,),
    "skill": lambda question: (question.skill or NO_CLASS,),
    "grade": lambda question: (f"grade {question.grade:02}" if question.grade else NO_CLASS,),
    "options": lambda question: (f"{len(question.options)} options",),
    "context-length": _context_length,
    "lecture": lambda question: ("with lecture" if question.lecture else "without lecture",),
}
"""Name of a dimension -> the classes of a question in it: mostly one; two for text with a picture; none if unknown."""


def cells(questions: Sequence[Question], by: str) -> dict[str, list[str]]:
    """Return the pids of every class that occurs, in a fixed order.

    Args:
        questions: what was asked.
        by: a dimension, or several joined by ``*`` to cross them: ``subject*context``.

    Raises:
        UserError: a dimension is not known.
    """
    names = [name.strip() for name in by.split("*")]
    for name in names:
        if name not in DIMENSIONS:
            raise UserError(
                f"--by {by!r}: {name!r} is not known{suggestion(name, list(DIMENSIONS))}; "
                f"there are {', '.join(DIMENSIONS)}, and crossings such as subject*context."
            )
    found: dict[tuple[str, ...], list[str]] = {}
    for question in questions:
        classes: list[tuple[str, ...]] = [()]
        for name in names:
            classes = [(*before, label) for before in classes for label in DIMENSIONS[name](question)]
        for labels in classes:
            found.setdefault(labels, []).append(question.pid)
    return {" x ".join(labels): found[labels] for labels in sorted(found, key=_in_order)}


def official_cells(questions: Sequence[Question]) -> dict[str, list[str]]:
    """Return the pids of the official table's nine columns; those that no question is in are empty."""
    return {column: [q.pid for q in questions if CLASSES[key](q)] for column, key in COLUMNS.items()}


_ORDER = [*_SUBJECTS.values(), "TXT", "IMG", "NO", "G1-6", "G7-12", *(name for _, name in _LENGTHS)]


def _in_order(labels: tuple[str, ...]) -> list[tuple[int, str]]:
    # Numbers in a label count as numbers: 10 options come after 2.
    return [
        (_ORDER.index(label) if label in _ORDER else len(_ORDER), re.sub("[0-9]+", lambda n: n[0].zfill(20), label))
        for label in labels
    ]


@dataclass(frozen=True)
class CellRow:
    """One cell: ``correct`` of ``total`` right; ``accuracy`` and its 95 % ``interval`` in percent."""

    name: str
    correct: int
    total: int
    accuracy: float
    interval: Interval | None


def cell_rows(
    outcomes: Mapping[str, bool],
    members: Mapping[str, Sequence[str]],
    clusters: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[CellRow]:
    """Return the accuracy of every cell with its interval.

    Args:
        outcomes: pid -> whether the answer is right.
        members: name of the cell -> its pids; empty cells are left out.
        clusters: pid -> cluster, for a bootstrap of whole clusters in place of Wilson's interval.
        seed: of the bootstrap.
    """
    rows = []
    for name, pids in members.items():
        if not pids:
            continue
        right = [outcomes[pid] for pid in pids]
        correct, total = sum(right), len(right)
        interval = (
            wilson(correct, total) if clusters is None else clustered(right, [clusters[pid] for pid in pids], seed)
        )
        rows.append(CellRow(name, correct, total, percentage(correct, total), interval))
    return rows
