"""Systems that answered the same questions: whose answers are better, how alike they are, what all of them miss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mm_adapter.core.errors import UserError
from mm_adapter.eval.checks import first_few
from mm_adapter.eval.intervals import Interval, bootstrapped, clustered

SIGNIFICANCE = 0.05

Outcomes = Mapping[str, bool]
"""pid -> whether the answer is right."""


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same questions.

    Attributes:
        questions: that both answered.
        only_first, only_second: right for one and wrong for the other.
        difference: accuracy of the second less that of the first, in points of percent.
        interval: of the difference, by paired bootstrap; None where it cannot be had.
        p_value: exact McNemar test, two-sided: how often chance alone parts two equally good systems at least as far.
        adjusted: the same after Holm's correction over all cells that were compared; ``p_value`` where one was.
    """

    questions: int
    only_first: int
    only_second: int
    difference: float
    interval: Interval | None
    p_value: float
    adjusted: float

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` (the second) where the corrected test says so, else ``not decided``."""
        if self.adjusted >= SIGNIFICANCE:
            return "not decided"
        return "better" if self.difference > 0 else "worse"


def compare(first: Outcomes, second: Outcomes, seed: int = 0, clusters: Mapping[str, str] | None = None) -> Comparison:
    """Compare two systems that answered the same questions.

    Args:
        first, second: pid -> right or wrong, of the same pids.
        seed: of the bootstrap.
        clusters: pid -> cluster, to draw whole clusters in the bootstrap (see ``mm_adapter.eval.intervals.clustered``).

    Raises:
        UserError: the systems answered different questions, or none.
    """
    check_same_questions(first, second)
    pids = list(first)
    values = [float(second[pid]) - float(first[pid]) for pid in pids]
    if clusters is None:
        interval = bootstrapped(values, seed, signed=True)
    else:
        interval = clustered(values, [clusters[pid] for pid in pids], seed, signed=True)
    only_first, only_second = values.count(-1.0), values.count(1.0)
    p_value = mcnemar(only_first, only_second)
    difference = 100 * (only_second - only_first) / len(pids)
    return Comparison(len(pids), only_first, only_second, difference, interval, p_value, p_value)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's test, exact and two-sided: of the questions that part the systems, half each."""
    from scipy.stats import binomtest

    apart = only_first + only_second
    return float(binomtest(only_second, apart).pvalue) if apart else 1.0


def compare_cells(
    first: Outcomes,
    second: Outcomes,
    cells: Mapping[str, Sequence[str]],
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> dict[str, Comparison]:
    """Compare two systems within each cell, with p-values corrected for the number of cells (Holm 1979).

    Args:
        cells: name -> pids; cells without questions are left out of the result and of the correction.

    Raises:
        UserError: as `compare`.
    """
    check_same_questions(first, second)
    found = {
        name: compare({pid: first[pid] for pid in pids}, {pid: second[pid] for pid in pids}, seed, clusters)
        for name, pids in cells.items()
        if pids
    }
    return dict(zip(found, corrected(list(found.values())), strict=True))


def compare_systems(
    systems: Mapping[str, Outcomes],
    cells: Mapping[str, Sequence[str]],
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> dict[tuple[str, str], dict[str, Comparison]]:
    """Compare every two systems within every cell; p-values are corrected for all of these comparisons (Holm 1979).

    Args:
        systems: name -> outcomes, of the same pids.
        cells: name -> pids; cells without questions are left out.

    Returns:
        ``(first, second)`` -> cell -> comparison, in the systems' order.

    Raises:
        UserError: as `compare`.
    """
    names = list(systems)
    pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
    found = {pair: compare_cells(systems[pair[0]], systems[pair[1]], cells, seed, clusters) for pair in pairs}
    fixed = iter(corrected([comparison for row in found.values() for comparison in row.values()]))
    return {pair: {cell: next(fixed) for cell in row} for pair, row in found.items()}


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with p-values corrected for their number (Holm 1979)."""
    if not comparisons:
        return []
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests([comparison.p_value for comparison in comparisons], method="holm")[1]
    return [replace(comparison, adjusted=float(value)) for comparison, value in zip(comparisons, adjusted, strict=True)]


def check_same_questions(first: Outcomes, second: Outcomes) -> None:
    """Refuse systems that answered different questions.

    Raises:
        UserError: with counts and the first pids of what only one of them answered.
    """
    if not first and not second:
        raise UserError("there is no question to compare systems on. Choose a split that has questions.")
    here, there = [p for p in first if p not in second], [p for p in second if p not in first]
    if here or there:
        parts = [
            f"{len(pids)} only by the {name} ({first_few(pids)})"
            for name, pids in (("first", here), ("second", there))
            if pids
        ]
        raise UserError(
            f"the systems answered different questions: {' and '.join(parts)}. Compare them on the same questions."
        )


@dataclass(frozen=True)
class Agreement:
    """How alike two systems answer.

    Attributes:
        same: share of questions with the same choice, in percent.
        kappa: Cohen's kappa of being right: 1 alike, 0 as alike as chance makes systems of these accuracies; None where
            a system has all right or all wrong, so that chance explains everything.
        same_wrong: of the questions that both miss, the share with the same wrong choice, in percent; None for none.
    """

    same: float
    kappa: float | None
    same_wrong: float | None


def agreement(first: Mapping[str, int], second: Mapping[str, int], answers: Mapping[str, int]) -> Agreement:
    """Say how alike two systems choose.

    Args:
        first, second: pid -> chosen index; -1 (unreadable) agrees with nothing.
        answers: pid -> right index, of the same pids.
    """
    from sklearn.metrics import cohen_kappa_score

    pids = list(answers)
    a, b = (np.array([system[pid] for pid in pids]) for system in (first, second))
    right = np.array([answers[pid] for pid in pids])
    same = (a == b) & (a >= 0)
    missed = (a != right) & (b != right)
    ours, theirs = a == right, b == right
    mixed = 0 < ours.sum() < len(pids) and 0 < theirs.sum() < len(pids)
    return Agreement(
        same=100 * float(same.mean()),
        kappa=float(cohen_kappa_score(ours, theirs)) if mixed else None,
        same_wrong=100 * float(same[missed].mean()) if missed.any() else None,
    )


def missed_by_all(systems: Sequence[Outcomes]) -> list[str]:
    """Return the pids that every system has wrong, in the first one's order."""
    return [pid for pid in systems[0] if not any(system[pid] for system in systems)] if systems else []
