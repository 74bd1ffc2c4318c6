"""From a file of predictions to a system that can be looked at from every side: figures, cells, comparison."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.layouts import read_predictions
from mm_adapter.eval.metrics import Metrics, evaluate_predictions, judge
from mm_adapter.eval.plain_text import visible
from mm_adapter.eval.record import DRAWN, UNREADABLE, Prediction
from mm_adapter.eval.source_rules import SourceReading, source_note, source_reading

MISSING = ("refuse", "wrong", "leave-out")
UNPARSEABLE = ("wrong", "random")


@dataclass(frozen=True)
class Reading:
    """How a file of predictions is taken.

    Attributes:
        missing: questions without prediction: ``refuse`` the file, count them ``wrong``, or ``leave-out``: score the
            rest, which is then a subset.
        unparseable: answers that could not be read: ``wrong``, or ``random``: an option is drawn, as other projects do.
        seed: of that drawing.
    """

    missing: str = "refuse"
    unparseable: str = "wrong"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.missing not in MISSING or self.unparseable not in UNPARSEABLE:
            raise UserError(
                f"missing {self.missing!r} is one of {', '.join(MISSING)}, and unparseable {self.unparseable!r} one of "
                f"{', '.join(UNPARSEABLE)}."
            )


@dataclass(frozen=True)
class System:
    """What one system answered, held against the right answers.

    Attributes:
        name: for tables.
        questions: that are scored, in the split's order; without those that were left out or skipped as bad.
        predictions: pid -> prediction, one for each question.
        outcomes: pid -> whether it is right.
        metrics: the official figures and more.
        unread: pids of the answers that could not be read.
        absent: pids without prediction.
        notes: what a reader of the figures must know besides.
        source: what the project that wrote the file reads in the same texts; None where it reads none.
    """

    name: str
    questions: tuple[Question, ...]
    predictions: dict[str, Prediction]
    outcomes: dict[str, bool]
    metrics: Metrics
    unread: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: SourceReading | None = None


def name_of(path: Path) -> str:
    """Return what a system is called after its file, or after the folder where every file is called like that.

    A folder that is called after a split says less than the one that holds it: ``RUN/test/predictions.jsonl`` is RUN's.
    """
    path = path.resolve()
    if path.is_file() and path.stem not in ("predictions", "official"):
        return path.stem
    folder = path.parent if path.is_file() or path.suffix else path
    return folder.parent.name if folder.name in ("train", "val", "test") and folder.parent.name else folder.name


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind each one that another has too."""
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found or (free != name and free in names):
            number += 1
            free = f"{name} {number}"
        found.append(free)
    return found


def read_system(
    path: Path,
    questions: Sequence[Question],
    skipped: Mapping[str, str] | None = None,
    reading: Reading | None = None,
    name: str | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> System:
    """Return the system whose predictions are in ``path``, in any layout (``mm_adapter.eval.layouts``).

    Args:
        path: file of predictions.
        questions: what should have been answered, usually one split.
        skipped: pid -> reason of the split's bad questions; they count as wrong, predicted or not.
        reading: what to do with missing and unreadable answers.
        name: for tables; see `name_of` by default.
        elsewhere: pid -> split, of the dataset's other questions, so that mixed-up splits are told as such.

    Raises:
        UserError: the file cannot be read, or its predictions do not fit the questions.
    """
    found = read_predictions(path, questions)
    return make_system(name or name_of(path), found, questions, skipped, reading, str(path), elsewhere)


def make_system(
    name: str,
    predictions: Sequence[Prediction],
    questions: Sequence[Question],
    skipped: Mapping[str, str] | None = None,
    reading: Reading | None = None,
    source: str = "predictions",
    elsewhere: Mapping[str, str] | None = None,
) -> System:
    """Return the system that made these predictions; see `read_system`.

    Raises:
        UserError: the predictions do not fit the questions.
    """
    reading, skipped = reading or Reading(), dict(skipped or {})
    unread = tuple(p.pid for p in predictions if p.choice == UNREADABLE and p.pid not in skipped)
    predictions = _drawn(predictions, questions, reading.seed) if reading.unparseable == "random" else predictions
    given = {prediction.pid for prediction in predictions}
    absent = tuple(question.pid for question in questions if question.pid not in given and question.pid not in skipped)
    notes = []
    if unread and reading.unparseable == "random":
        notes.append(f"{len(unread)} answers could not be read and were drawn at random (seed {reading.seed}).")
    if absent and reading.missing == "wrong":
        predictions = [*predictions, *(Prediction(pid, UNREADABLE) for pid in absent)]
        notes.append(f"{len(absent)} of {len(questions)} questions have no prediction; they count as wrong.")
    if absent and reading.missing == "leave-out":
        notes.append(f"A subset: {len(absent)} of {len(questions)} questions have no prediction and are left out.")
        questions = [question for question in questions if question.pid in given or question.pid in skipped]
    metrics = evaluate_predictions(predictions, questions, skipped, source, elsewhere)
    # Questions that nobody answered are no answers that could not be read, and drawn ones are told as such.
    metrics = replace(metrics, unparseable=0 if reading.unparseable == "random" else len(unread))
    outcomes = judge(predictions, questions, skipped)
    by_pid = {prediction.pid: prediction for prediction in predictions}
    for pid in skipped:
        by_pid[pid] = Prediction(pid, UNREADABLE)
    other = source_reading(questions, by_pid, skipped)
    if other is not None and other.differing:
        notes.append(source_note(other))
    return System(name, tuple(questions), by_pid, outcomes, metrics, unread, absent, tuple(notes), other)


def source_notes(systems: Sequence[System]) -> tuple[str, ...]:
    """Return a note with both figures for every system whose texts its source tool reads otherwise."""
    return tuple(
        visible(f"{system.name}: {source_note(system.source)}", 600)
        for system in systems
        if system.source is not None and system.source.differing
    )


def _drawn(predictions: Sequence[Prediction], questions: Sequence[Question], seed: int) -> list[Prediction]:
    # In the questions' order, so that the same answers draw the same in any layout.
    generator = random.Random(seed)
    drawn = {question.pid: generator.randrange(len(question.options)) for question in questions}
    return [
        replace(found, choice=drawn[found.pid], rule=DRAWN)
        if found.choice == UNREADABLE and found.pid in drawn
        else found
        for found in predictions
    ]
