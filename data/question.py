"""The one record that every reader of questions produces, the set of them with its splits, and how tables are taken."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mm_adapter.core.errors import UserError, suggestion

MOST_CHARACTERS = 1_000_000
"""Of a text: a longer one takes minutes and gigabytes to encode, only to be cut to what a model can read."""


@dataclass(frozen=True)
class Question:
    """One multiple-choice question, with the metadata of ScienceQA (arXiv 2209.09513).

    Attributes:
        pid: the dataset's id of the problem, unique within a dataset.
        question: what is asked.
        context: text that goes with the question (``hint`` in the official files); empty where there is none.
        options: the choices, at least two.
        answer: index of the right option; -1 where it is not known.
        image: file of the picture, or None.
        subject: ``natural science``, ``social science`` or ``language science``.
        topic, category, skill: the dataset's finer classes.
        grade: 1 to 12; 0 where it is not known.
        split: ``train``, ``val`` or ``test``.
        lecture, solution: background and explanation; empty where there is none.
    """

    pid: str
    question: str
    options: tuple[str, ...]
    answer: int
    context: str = ""
    image: Path | None = None
    subject: str = ""
    topic: str = ""
    category: str = ""
    skill: str = ""
    grade: int = 0
    split: str = ""
    lecture: str = ""
    solution: str = ""


@dataclass(frozen=True)
class Dataset:
    """What a reader found in one place.

    Attributes:
        questions: every usable question, each once, in the order of the source.
        splits: split name -> pids in the order of the split file, those that were skipped included.
        bad: pid -> why that question is not usable; empty unless bad questions were to be skipped.
        source: the file, folder or hub id, for messages.
        summary: what a table was understood as; empty for the official layout.
    """

    questions: tuple[Question, ...]
    splits: Mapping[str, tuple[str, ...]]
    bad: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    summary: str = ""

    @property
    def default_split(self) -> str:
        """The split to evaluate where none is named: ``test``, or all of a table that has no splits."""
        return default_split(self.splits)

    @cached_property
    def by_pid(self) -> dict[str, Question]:
        """The usable questions by their pid."""
        return {question.pid: question for question in self.questions}

    def split(self, name: str) -> list[Question]:
        """Return the usable questions of split ``name`` in the order of the split file.

        Raises:
            UserError: there is no such split, or nothing usable is in it.
        """
        questions = [self.by_pid[pid] for pid in self._pids(name) if pid in self.by_pid]
        if not questions:
            skipped = len(self.skipped(name))
            why = f"all of its {skipped} questions were skipped as bad" if skipped else "it is empty"
            filled = [other for other, pids in self.splits.items() if any(pid in self.by_pid for pid in pids)]
            advice = f"Splits with questions: {', '.join(filled)}." if filled else "No split has any question."
            raise UserError(f"{self.source}: split {name!r} cannot be used, {why}. {advice}")
        return questions

    def skipped(self, name: str) -> dict[str, str]:
        """Return pid -> reason for the questions of split ``name`` that were skipped; a score counts them as wrong.

        Raises:
            UserError: there is no such split.
        """
        return {pid: self.bad[pid] for pid in self._pids(name) if pid in self.bad}

    def _pids(self, name: str) -> tuple[str, ...]:
        if name not in self.splits:
            known = list(self.splits)
            listed = ", ".join(known) or "none"
            raise UserError(
                f"{self.source}: there is no split {name!r}{suggestion(name, known)}. Splits there are: {listed}."
            )
        return self.splits[name]


def refuse_bad(dataset: Dataset, where: str) -> Dataset:
    """Return ``dataset`` when nothing in it is bad.

    Raises:
        UserError: something is bad; names the first such question, its reason, and how many more there are.
    """
    if not dataset.bad:
        return dataset
    pid, reason = next(iter(dataset.bad.items()))
    others = len(dataset.bad) - 1
    more = f" ({others} more {'question is' if others == 1 else 'questions are'} bad.)" if others else ""
    raise UserError(f"{where}: question {pid[:80]!r}: {reason}. Mend it, or leave it out with --skip-bad.{more}")


@dataclass(frozen=True)
class TableOptions:
    """How a table is taken, as far as it does not say so itself.

    Attributes:
        images: folder that names of pictures are relative to; that of the table by default.
        columns: what columns hold, as ``ROLE=COLUMN``, and ``ignore=COLUMN`` for those to pass over.
        answers: how answers name an option: ``index`` (from 0), ``letter`` or ``text``; told from all rows by default.
        val_share: share of the rows that is held out of a table without a ``val`` split.
        allow_urls: download pictures that are named by URL.
        bad_pictures: file -> why it cannot be used, where that is known; rows with one are bad.
    """

    images: Path | None = None
    columns: tuple[str, ...] = ()
    answers: str | None = None
    val_share: float = 0.05
    allow_urls: bool = False
    bad_pictures: Mapping[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.val_share < 1:
            raise UserError(f"--val-share {self.val_share}: it must be greater than 0 and less than 1.")
        if self.images is not None and not self.images.is_dir():
            raise UserError(f"{self.images}: this image folder does not exist. Check the path.")


def default_split(splits: Mapping[str, object]) -> str:
    """Return the split to evaluate where none is named."""
    return "test" if "test" in splits or "all" not in splits else "all"


def hold_out(ids: Sequence[str], share: float, bad: Collection[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids to train on and those to validate with: a share drawn by a fixed seed, at least one of each.

    The same table is divided in the same way each time, so what was held out in training can be evaluated later. Rows
    that are found to be bad only once their pictures are decoded must not shift the others: in the order drawn over all
    rows, the first good ones are held out. A reader that knows of fewer bad ones holds out no row that another trains
    on.

    Args:
        ids: of all rows, bad ones included.
        share: of the rows.
        bad: ids that are not to be held out.
    """
    order = [name for name in random.Random(0).sample(list(ids), len(ids)) if name not in bad]
    held = set(order[: max(1, int(len(ids) * share))]) if len(order) > 1 else set[str]()
    return tuple(name for name in ids if name not in held), tuple(name for name in ids if name in held)


def divide(
    splits: Mapping[str, tuple[str, ...]], share: float, bad: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the splits with ``val`` held out of ``train``, or of all rows, where it is missing; see ``hold_out``."""
    whole = splits.get("train", splits.get("all"))
    if "val" in splits or whole is None:
        return dict(splits)
    train, val = hold_out(whole, share, bad)
    return {**splits, "train": train, "val": val}
