"""Accuracies of the field: the official ScienceQA evaluator's, and the same answers by topic, category and skill.

Every figure is a percentage with two decimals. The official ones follow ``tools/evaluate_acc.py`` of
github.com/lupantech/ScienceQA, with its by-topic figures over a fixed list of topics.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.checks import check_predictions, shortened
from mm_adapter.eval.record import UNREADABLE, Prediction

TOPICS = (
    *("punctuation", "literacy-in-science", "verbs", "pronouns", "civics", "culture", "word-study", "economics"),
    *("physics", "units-and-measurement", "science-and-engineering-practices", "reading-comprehension"),
    *("global-studies", "grammar", "figurative-language", "us-history", "writing-strategies", "world-history"),
    *("reference-skills", "biology", "earth-science", "phonological-awareness", "capitalization", "chemistry"),
    *("vocabulary", "geography"),
)
"""The official evaluator's topics, in its order; it knows no others."""

CLASSES: dict[str, Callable[[Question], bool]] = {
    "acc_natural": lambda question: question.subject == "natural science",
    "acc_social": lambda question: question.subject == "social science",
    "acc_language": lambda question: question.subject == "language science",
    "acc_has_text": lambda question: bool(question.context),
    "acc_has_image": lambda question: question.image is not None,
    "acc_no_context": lambda question: not question.context and question.image is None,
    "acc_grade_1_6": lambda question: 1 <= question.grade <= 6,
    "acc_grade_7_12": lambda question: 7 <= question.grade <= 12,
    "acc_average": lambda question: True,
}
"""Key of the official evaluator -> which questions it counts. A context of white space alone is a context to it."""

COLUMNS = {
    "NAT": "acc_natural",
    "SOC": "acc_social",
    "LAN": "acc_language",
    "TXT": "acc_has_text",
    "IMG": "acc_has_image",
    "NO": "acc_no_context",
    "G1-6": "acc_grade_1_6",
    "G7-12": "acc_grade_7_12",
    "Avg": "acc_average",
}
"""Column of the official table -> key of the official evaluator."""

NO_CLASS = "(none)"
"""Stands for the class of a question that has none."""

Key = Literal["topic", "category", "skill", "subject", "grade"]


@dataclass(frozen=True)
class ClassRow:
    """One class of questions: ``correct`` of ``total`` answers right; ``accuracy`` in percent, two decimals."""

    name: str
    correct: int
    total: int
    accuracy: float


@dataclass(frozen=True)
class Metrics:
    """What a set of predictions is worth.

    Attributes:
        official: the official evaluator's keys -> accuracy in percent, two decimals; None where no question counts.
        counts: the same keys -> number of questions that count.
        by_topic, by_category, by_skill: the classes that occur, by name; questions without one are ``(none)``.
        unparseable: answers that could not be read (choice -1); they count as wrong.
        skipped: pid -> reason of the questions that were left out as bad. They count as wrong in ``acc_average``; a
            skipped pid that has a question also does in that question's classes, one without a readable question
            belongs to no class.
    """

    official: dict[str, float | None]
    counts: dict[str, int]
    by_topic: list[ClassRow]
    by_category: list[ClassRow]
    by_skill: list[ClassRow]
    unparseable: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Over all questions, in percent with two decimals: the official average."""
        found = self.official["acc_average"]
        assert found is not None, "metrics are of one question or more"
        return found

    @property
    def has_subjects(self) -> bool:
        """Whether some question is of one of ScienceQA's subjects."""
        return any(self.counts[COLUMNS[column]] for column in ("NAT", "SOC", "LAN"))

    def to_json(self) -> dict[str, Any]:
        """Return the same as values that JSON has, in a fixed order, with ``accuracy`` first."""
        return {"accuracy": self.accuracy, **asdict(self)}


def percentage(correct: int, total: int) -> float:
    """Return ``correct`` of ``total`` in percent, with the official evaluator's two decimals.

    The order of the operations and the rounding by formatting are the official ones: ``100 * correct / total`` would
    differ in the second decimal where the third is a 5.
    """
    return float(f"{correct / total * 100:.2f}")


def official_metrics(
    predictions: Iterable[Prediction], questions: Sequence[Question], skipped: Collection[str] = ()
) -> dict[str, float | None]:
    """Return the official evaluator's keys, in its order, with accuracies in percent; None where no question counts.

    Args:
        predictions: one per question; see ``mm_adapter.eval.checks.check_predictions``.
        questions: what was asked.
        skipped: pids that count as wrong, whether or not they have a question or a prediction.

    Raises:
        UserError: a question has no prediction, or no known answer to compare with.
    """
    return _official(judge(predictions, questions, skipped), questions, skipped)[0]


def breakdown(
    predictions: Iterable[Prediction], questions: Sequence[Question], key: Key, skipped: Collection[str] = ()
) -> list[ClassRow]:
    """Return the accuracy of every class of ``key`` that occurs, sorted by name (grades by number).

    A question without a value is in the class ``(none)``, so every question is in one class and the totals add up.

    Raises:
        UserError: as `official_metrics`.
    """
    return _rows(judge(predictions, questions, skipped), questions, key)


def evaluate_predictions(
    predictions: Sequence[Prediction],
    questions: Sequence[Question],
    skipped: Mapping[str, str] | None = None,
    source: str = "predictions",
    elsewhere: Mapping[str, str] | None = None,
) -> Metrics:
    """Return every figure for ``predictions`` on ``questions``.

    Args:
        predictions: exactly one per question. Those for skipped pids are ignored.
        questions: what was asked.
        skipped: pid -> reason of bad questions that were left out; they count as wrong (see `Metrics`).
        source: where the predictions come from, for messages.
        elsewhere: pid -> split, of the dataset's other questions, for messages.

    Raises:
        UserError: the predictions do not fit the questions (``eval.checks.check_predictions``), a question has no known
            answer, or there is no question at all.
    """
    skipped = dict(skipped or {})
    if not questions and not skipped:
        raise UserError(f"{source}: there is no question to score. Choose a split that has questions.")
    check_predictions(predictions, questions, source, missing_allowed=skipped, elsewhere=elsewhere)
    correct = judge(predictions, questions, skipped)
    official, counts = _official(correct, questions, skipped)
    return Metrics(
        official=official,
        counts=counts,
        by_topic=_rows(correct, questions, "topic"),
        by_category=_rows(correct, questions, "category"),
        by_skill=_rows(correct, questions, "skill"),
        unparseable=sum(p.choice == UNREADABLE and p.pid not in skipped for p in predictions),
        skipped=skipped,
    )


def judge(
    predictions: Iterable[Prediction], questions: Sequence[Question], skipped: Collection[str]
) -> dict[str, bool]:
    """Return pid -> whether the answer is right, for every question."""
    choices = {prediction.pid: prediction.choice for prediction in predictions}
    correct = {}
    for question in questions:
        # Without this, an answer that is not known (-1) would agree with one that could not be read (-1).
        if question.answer < 0:
            raise UserError(f"question {shortened(question.pid)} has no known answer to score. Choose another split.")
        if question.pid not in choices and question.pid not in skipped:
            raise UserError(f"question {shortened(question.pid)} has no prediction. Predict every question.")
        correct[question.pid] = question.pid not in skipped and choices[question.pid] == question.answer
    return correct


def _official(
    correct: Mapping[str, bool], questions: Sequence[Question], skipped: Collection[str]
) -> tuple[dict[str, float | None], dict[str, int]]:
    classes = {key: [q.pid for q in questions if belongs(q)] for key, belongs in CLASSES.items()}
    classes["acc_average"] += [pid for pid in skipped if pid not in correct]
    classes |= {f"acc_{topic}": [q.pid for q in questions if q.topic == topic] for topic in TOPICS}
    accuracies = {
        key: percentage(sum(correct.get(pid, False) for pid in pids), len(pids)) if pids else None
        for key, pids in classes.items()
    }
    return accuracies, {key: len(pids) for key, pids in classes.items()}


def _rows(correct: Mapping[str, bool], questions: Sequence[Question], key: Key) -> list[ClassRow]:
    classes: dict[str | int, list[bool]] = {}
    for question in questions:
        classes.setdefault(getattr(question, key), []).append(correct[question.pid])
    return [
        ClassRow(str(name or NO_CLASS), sum(answers), len(answers), percentage(sum(answers), len(answers)))
        for name, answers in sorted(classes.items())
    ]
