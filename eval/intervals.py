"""How sure a figure is: intervals of an accuracy and of a difference of accuracies, in percent, by scipy and numpy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``, in percent or points of percent."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson(correct: int, total: int, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the score interval of an accuracy (Wilson 1927) in percent; None where no question counts.

    It supposes questions drawn independently. Where many come from one template, `clustered` says what that costs.
    """
    from scipy.stats import binomtest

    if total == 0:
        return None
    found = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return Interval(100 * float(found.low), 100 * float(found.high))


def clustered(
    values: Sequence[float],
    clusters: Sequence[str],
    seed: int = 0,
    confidence: float = CONFIDENCE,
    signed: bool = False,
) -> Interval | None:
    """Return the bootstrap interval of a mean, in percent, when whole clusters of questions are drawn.

    Questions of one skill are made from one template: a system has most of them right or most of them wrong. Drawn by
    skill, the interval says how the figure would change with other skills.

    Args:
        values: of each question, such as 1 for right and 0 for wrong.
        clusters: of each question, such as its skill.
        seed: of the resampling; the same seed gives the same interval.
        signed: values are differences, from -1 to 1; else they are from 0 to 1.

    Returns:
        None where there are fewer than two clusters, which say nothing of others.
    """
    from scipy.stats import bootstrap

    numbers: dict[str, int] = {}
    place = [numbers.setdefault(name, len(numbers)) for name in clusters]
    if len(numbers) < 2:
        return None
    sums, counts = np.bincount(place, weights=np.asarray(values, dtype=float)), np.bincount(place)
    if np.ptp(sums / counts) == 0:
        return _alike(float(values[0]), len(numbers), confidence, signed)
    found = bootstrap(
        (sums, counts),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        n_resamples=RESAMPLES,
        batch=max(1, 4_000_000 // len(numbers)),
        vectorized=True,
        paired=True,
        confidence_level=_expanded(len(numbers), confidence),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(100 * float(found.low), 100 * float(found.high))


def bootstrapped(
    values: Sequence[float], seed: int = 0, confidence: float = CONFIDENCE, signed: bool = False
) -> Interval | None:
    """Return the bootstrap interval of a mean, in percent, when questions are drawn; None for fewer than two.

    Few values differ (-1, 0 and 1 in a paired comparison): what a resample holds of each is one multinomial draw.

    Args:
        values, seed, signed: see `clustered`.
    """
    count = len(values)
    if count < 2:
        return None
    different, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    if len(different) == 1:
        return _alike(float(different[0]), count, confidence, signed)
    drawn = np.random.default_rng(seed).multinomial(count, counts / count, size=RESAMPLES)
    tail = (1 - _expanded(count, confidence)) / 2
    low, high = np.quantile(drawn @ different / count, [tail, 1 - tail])
    return Interval(100 * float(low), 100 * float(high))


def _alike(value: float, count: int, confidence: float, signed: bool) -> Interval:
    """Return the interval of values that are all alike, of which a bootstrap would be sure.

    None of ``count`` is another one, so up to this share of all may be (Clopper & Pearson 1934): 3.7 / count or so.
    """
    others = 1 - ((1 - confidence) / 2) ** (1 / count)
    return Interval(100 * max(-1.0 if signed else 0.0, value - others), 100 * min(1.0, value + others))


def _expanded(count: int, confidence: float) -> float:
    """Return the confidence whose percentiles are as far out as Student's t is beyond the normal.

    Plain percentiles are too short for few items: "expanded percentiles", Hesterberg, arXiv 1411.5279.
    """
    from scipy.stats import norm, t

    reach = t.ppf((1 + confidence) / 2, count - 1) * math.sqrt(count / (count - 1))
    return 2 * float(norm.cdf(reach)) - 1
