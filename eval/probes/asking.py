"""One probe: what it changes, how any system is asked again, and what changed in its answers."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.comparison import Comparison, compare, corrected
from mm_adapter.eval.metrics import judge
from mm_adapter.eval.record import Prediction

System = Callable[[Sequence[Question]], list[Prediction]]
"""Whatever answers questions: one prediction for each, in their order. It is never told which are changed."""


@dataclass(frozen=True)
class Probe:
    """A change of questions.

    Attributes:
        name: as on the command line.
        text: what is changed, for a report.
        change: questions -> the same questions in the same order, changed or as they were; options stay in place.
    """

    name: str
    text: str
    change: Callable[[Sequence[Question]], list[Question]]


@dataclass(frozen=True)
class ProbeResult:
    """What a change does to a system's answers.

    Attributes:
        name, text: of the probe.
        accuracy: of all questions, in percent.
        image_accuracy: of those with a picture in the data, in percent; None where there are none.
        moved: questions that are answered otherwise, right or wrong.
        comparison: with the unprobed run (the first), on the questions that the probe changes.
        predictions: for every question, options counted as in the data; unchanged questions keep their answer.
    """

    name: str
    text: str
    accuracy: float
    image_accuracy: float | None
    moved: int
    comparison: Comparison
    predictions: tuple[Prediction, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as values that JSON has; the predictions are files of their own."""
        return {
            "text": self.text,
            "accuracy": self.accuracy,
            "image_accuracy": self.image_accuracy,
            "answered_otherwise": self.moved,
            **asdict(self.comparison),
            "verdict": self.comparison.verdict,
        }


def ask(
    probe: Probe, system: System, questions: Sequence[Question], unprobed: Sequence[Prediction], seed: int = 0
) -> ProbeResult:
    """Ask ``system`` the questions that the probe changes, once more; the others keep the answer they had.

    Args:
        probe: what is changed.
        system: what is probed; its answer to a question must not depend on the others.
        questions: as they are in the data, with known answers.
        unprobed: the system's predictions for them, one each.
        seed: of the interval's bootstrap.

    Raises:
        UserError: the probe changes no question.
    """
    changed = probe.change(questions)
    again = [new for old, new in zip(questions, changed, strict=True) if new != old]
    if not again:
        raise UserError(f"probe {probe.name}: changes none of the {len(questions)} questions. Leave it out.")
    answers = {prediction.pid: prediction for prediction in system(again)}
    return measure(probe.name, probe.text, questions, unprobed, answers, seed)


def measure(
    name: str,
    text: str,
    questions: Sequence[Question],
    unprobed: Sequence[Prediction],
    answers: Mapping[str, Prediction],
    seed: int = 0,
) -> ProbeResult:
    """Hold the new ``answers`` (pid -> prediction, of the questions that were changed) against the unprobed run."""
    predictions = tuple(answers.get(prediction.pid, prediction) for prediction in unprobed)
    before, after = judge(unprobed, questions, ()), judge(predictions, questions, ())
    changed = [question.pid for question in questions if question.pid in answers]
    comparison = compare({pid: before[pid] for pid in changed}, {pid: after[pid] for pid in changed}, seed)
    return ProbeResult(
        name=name,
        text=text,
        accuracy=share(after, after) or 0.0,
        image_accuracy=share(after, pictured_pids(questions)),
        moved=sum(old.choice != new.choice for old, new in zip(unprobed, predictions, strict=True)),
        comparison=comparison,
        predictions=predictions,
    )


def pictured_pids(questions: Sequence[Question]) -> list[str]:
    """Return the pids of the questions with a picture."""
    return [question.pid for question in questions if question.image is not None]


def share(outcomes: Mapping[str, bool], pids: Collection[str]) -> float | None:
    """Return how many of ``pids`` are right, in percent; None for none."""
    return 100 * sum(outcomes[pid] for pid in pids) / len(pids) if pids else None


def corrected_results(results: Sequence[ProbeResult]) -> list[ProbeResult]:
    """Return the results with p-values corrected for the number of probes (Holm 1979)."""
    comparisons = corrected([result.comparison for result in results])
    return [replace(result, comparison=found) for result, found in zip(results, comparisons, strict=True)]
