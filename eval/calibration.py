"""Whether a system knows when it is right: its probabilities held against its answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mm_adapter.data.question import Question
from mm_adapter.eval.record import DRAWN, Prediction

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Answers of similar confidence: from ``low`` to ``high``, their number, mean confidence and accuracy (0 to 1)."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy agree.

    Attributes:
        questions: that have probabilities.
        expected_error: expected calibration error, 0 to 1 (Naeini et al. 2015; 15 bins of equal width): the mean
            distance of confidence and accuracy over bins, by their number of answers.
        brier: mean over questions of the squared distances of all options' probabilities from the truth, 0 to 2
            (Brier 1950).
        bins: the reliability diagram, empty bins left out.
        coverage, risk: both 0 to 1: of the share of questions with the highest confidence, how many are wrong.
        risk_area: area under that curve; lower is better (Geifman & El-Yaniv 2017).
    """

    questions: int
    expected_error: float
    brier: float
    bins: tuple[Bin, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    risk_area: float


def calibration(predictions: Mapping[str, Prediction], questions: Sequence[Question]) -> Calibration | None:
    """Return the calibration of the answers that come with probabilities; None where there are none.

    Confidence is the probability of the chosen option, whether or not it is the highest.

    Args:
        predictions: pid -> prediction; probabilities are in the order of the options and sum to 1.
        questions: what was asked.
    """
    confidences, right, squares = [], [], []
    for question in questions:
        found = predictions.get(question.pid)
        if found is None or not found.probabilities or found.choice < 0 or found.rule == DRAWN:
            continue
        confidences.append(found.probabilities[found.choice])
        right.append(found.choice == question.answer)
        squares.append(math.fsum((p - (index == question.answer)) ** 2 for index, p in enumerate(found.probabilities)))
    if not confidences:
        return None
    confidence, correct = np.array(confidences), np.array(right, dtype=float)
    bins = _bins(confidence, correct)
    error = math.fsum(part.count * abs(part.confidence - part.accuracy) for part in bins) / len(confidence)
    coverage, risk = _risk_curve(confidence, correct)
    area = float(np.mean(risk))
    return Calibration(
        len(confidence), error, float(np.mean(squares)), bins, tuple(coverage.tolist()), tuple(risk.tolist()), area
    )


def _bins(confidence: np.ndarray, correct: np.ndarray) -> tuple[Bin, ...]:
    # The last bin holds 1 itself.
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(
            index / BINS,
            (index + 1) / BINS,
            int((place == index).sum()),
            float(confidence[place == index].mean()),
            float(correct[place == index].mean()),
        )
        for index in np.unique(place).tolist()
    )


def _risk_curve(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Equal confidences cannot be told apart: each of them gets the mean of its group.
    order = np.argsort(-confidence, kind="stable")
    groups = np.unique(-confidence[order], return_inverse=True)[1]
    within = (np.bincount(groups, weights=1 - correct[order]) / np.bincount(groups))[groups]
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(within) / counts
