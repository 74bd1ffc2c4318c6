"""Options in every rotation: whether answers follow what an option says or where it stands."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mm_adapter.data.question import Question
from mm_adapter.data.templates import letter_of
from mm_adapter.eval.comparison import SIGNIFICANCE
from mm_adapter.eval.probes.asking import ProbeResult, System, measure
from mm_adapter.eval.record import Prediction

LEAST_EXPECTED = 5
"""A chi-square test needs about so many answers for every position."""


def rotate(question: Question, shift: int) -> Question:
    """Return the question with its options moved ``shift`` places to the front, the first ones to the end."""
    count = len(question.options)
    shift %= count
    options = question.options[shift:] + question.options[:shift]
    return replace(question, options=options, answer=question.answer if question.answer < 0 else _back(question, shift))


def _back(question: Question, shift: int) -> int:
    return (question.answer - shift) % len(question.options)


def mapped_back(prediction: Prediction, shift: int, count: int) -> Prediction:
    """Return a prediction for a rotated question as one for the question itself, which has ``count`` options."""

    def in_order(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(values[(index - shift) % count] for index in range(count)) if values else ()

    return replace(
        prediction,
        choice=prediction.choice if prediction.choice < 0 else (prediction.choice + shift) % count,
        scores=in_order(prediction.scores),
        probabilities=in_order(prediction.probabilities),
    )


@dataclass(frozen=True)
class PositionRow:
    """Answers at one position, for questions with one number of options.

    Attributes:
        options: how many options the questions have.
        position: counted from 0.
        right, chosen: share of the right and of the chosen options there, unprobed, in percent.
        chosen_rotated: share of the chosen options there over all rotations, in percent; even without any bias.
    """

    options: int
    position: int
    right: float
    chosen: float
    chosen_rotated: float


@dataclass(frozen=True)
class Rotations:
    """What rotating the options shows.

    Attributes:
        result: one rotation of each question, other than none, drawn by the seed, against the unprobed run.
        accuracies: shift -> accuracy in percent of the questions with more than ``shift`` options, and their number.
        mean_accuracy: over all rotations of every question, each question counting the same, in percent.
        consistency: share of questions for which the same option is chosen in all rotations, in percent.
        positions: by number of options and position.
        predictions: by shift, mapped back, for the questions with more than ``shift`` options.
        chi_square, degrees, p_value: test of even choice of positions, see ``position_test``; None where the questions
            are too few.
    """

    result: ProbeResult
    accuracies: Mapping[int, tuple[float, int]]
    mean_accuracy: float
    consistency: float
    positions: tuple[PositionRow, ...]
    predictions: Mapping[int, tuple[Prediction, ...]]
    chi_square: float | None
    degrees: int
    p_value: float | None

    @property
    def verdict(self) -> str:
        """Whether answers depend on the position, in a sentence."""
        if self.p_value is None:
            return "too few questions to tell whether answers depend on the position of an option."
        most = max(self.positions, key=lambda row: row.chosen_rotated - 100 / row.options)
        where = (
            f"position {letter_of(most.position)} is chosen in {most.chosen_rotated:.0f} % of the answers to questions "
            f"with {most.options} options (even: {100 / most.options:.0f} %, over all rotations)"
        )
        test = f"chi-square {self.chi_square:.1f} with {self.degrees} degrees of freedom, p {self.p_value:.2g}"
        if self.p_value < SIGNIFICANCE:
            return f"answers depend on the position: {where}; {test}."
        return f"no sign that answers depend on the position ({test})."

    def to_json(self) -> dict[str, Any]:
        """Return the figures as values that JSON has."""
        accuracies = {str(k): {"accuracy": accuracy, "questions": n} for k, (accuracy, n) in self.accuracies.items()}
        return {
            "accuracies": accuracies,
            "mean_accuracy": self.mean_accuracy,
            "consistency": self.consistency,
            "positions": [asdict(row) for row in self.positions],
            "chi_square": self.chi_square,
            "degrees_of_freedom": self.degrees,
            "p_value": self.p_value,
            "verdict": self.verdict,
        }


def ask_rotations(
    system: System, questions: Sequence[Question], unprobed: Sequence[Prediction], seed: int = 0
) -> Rotations:
    """Ask every question once in every rotation of its options.

    Args:
        system: what is probed.
        questions: as they are in the data, with known answers.
        unprobed: the system's predictions for them, one each: the rotation by 0.
        seed: draws a rotation of each question for the tests.
    """
    found: dict[str, list[Prediction]] = {prediction.pid: [prediction] for prediction in unprobed}
    for shift in range(1, max(len(question.options) for question in questions)):
        members = [question for question in questions if len(question.options) > shift]
        counts = {question.pid: len(question.options) for question in members}
        for prediction in system([rotate(question, shift) for question in members]):
            found[prediction.pid].append(mapped_back(prediction, shift, counts[prediction.pid]))
    draw = random.Random(seed)
    drawn = {q.pid: found[q.pid][draw.randrange(1, len(q.options))] for q in questions}
    text = "the options stand in another order, rotated; one rotation of each question, drawn at random"
    right = {q.pid: [prediction.choice == q.answer for prediction in found[q.pid]] for q in questions}
    longest = max(map(len, right.values()))
    of_shift = {shift: [own[shift] for own in right.values() if len(own) > shift] for shift in range(longest)}
    chi_square, degrees, p_value = position_test(questions, found, seed)
    return Rotations(
        result=measure("rotations", text, questions, unprobed, drawn, seed),
        accuracies={shift: (100 * sum(own) / len(own), len(own)) for shift, own in of_shift.items()},
        mean_accuracy=100 * sum(sum(own) / len(own) for own in right.values()) / len(right),
        consistency=100 * sum(map(_consistent, found.values())) / len(found),
        positions=tuple(_position_rows(questions, found)),
        predictions={
            shift: tuple(own[shift] for own in found.values() if len(own) > shift) for shift in range(longest)
        },
        chi_square=chi_square,
        degrees=degrees,
        p_value=p_value,
    )


def position_test(
    questions: Sequence[Question], found: Mapping[str, Sequence[Prediction]], seed: int = 0
) -> tuple[float | None, int, float | None]:
    """Test whether positions are chosen evenly.

    Of each question one rotation counts, drawn evenly. Whatever a system makes of the options' words, each of its
    answers then stands at every position alike, and those to different questions are independent; all rotations
    together would not be. Pearson's statistic is summed over the numbers of options that occur often enough.

    Args:
        found: pid -> predictions by shift, mapped back.

    Returns:
        Statistic, degrees of freedom and p-value; None, 0 and None where every group is too small.
    """
    from scipy.stats import chi2, chisquare

    draw = random.Random(f"positions {seed}")
    chosen: dict[int, Counter[int]] = {}
    for question in questions:
        count = len(question.options)
        shift = draw.randrange(count)
        choice = found[question.pid][shift].choice
        if choice >= 0:
            chosen.setdefault(count, Counter())[(choice - shift) % count] += 1
    statistic, degrees = 0.0, 0
    for count, own in chosen.items():
        if own.total() >= LEAST_EXPECTED * count:
            statistic += float(chisquare([own[position] for position in range(count)]).statistic)
            degrees += count - 1
    return (statistic, degrees, float(chi2.sf(statistic, degrees))) if degrees else (None, 0, None)


def _consistent(predictions: Sequence[Prediction]) -> bool:
    choices = {prediction.choice for prediction in predictions}
    return len(choices) == 1 and min(choices) >= 0


def _position_rows(questions: Sequence[Question], found: Mapping[str, Sequence[Prediction]]) -> list[PositionRow]:
    rows = []
    for count in sorted({len(question.options) for question in questions}):
        members = [question for question in questions if len(question.options) == count]
        right = Counter(question.answer for question in members)
        chosen = Counter(found[question.pid][0].choice for question in members)
        rotated = Counter(
            (prediction.choice - shift) % count
            for question in members
            for shift, prediction in enumerate(found[question.pid])
            if prediction.choice >= 0
        )
        # Of the answers that could be read: one that could not stands at no position.
        readable = sum(chosen[position] for position in range(count)) or 1
        rows += [
            PositionRow(
                count,
                position,
                100 * right[position] / len(members),
                100 * chosen[position] / readable,
                100 * rotated[position] / (rotated.total() or 1),
            )
            for position in range(count)
        ]
    return rows
