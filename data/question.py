"""The one record that every reader of questions produces, and the set of them with its splits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mm_adapter.core.errors import UserError, suggestion


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
        source: the folder or hub id, for messages.
    """

    questions: tuple[Question, ...]
    splits: Mapping[str, tuple[str, ...]]
    bad: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

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
