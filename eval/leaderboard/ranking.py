"""Order and comparison of rows: by accuracy, and what of that order a test supports."""

from collections.abc import Sequence
from dataclasses import dataclass

from mm_adapter.eval.comparison import SIGNIFICANCE, mcnemar
from mm_adapter.eval.intervals import Interval, wilson
from mm_adapter.eval.leaderboard.published import official_pids
from mm_adapter.eval.leaderboard.row import Row
from mm_adapter.eval.system import distinct


@dataclass(frozen=True)
class Ranked:
    """A row and its place.

    Attributes:
        row: the result.
        rank: 1 and one more for every row with a higher average; None where no average was published, and for people
            and chance.
        interval: 95 % interval of a run's average; None for a published row.
        verdicts: of each run, whether it is ``better`` or ``worse`` than this row or that is ``not decided``; empty for
            a row that has no average, and for the run itself.
    """

    row: Row
    rank: int | None
    interval: Interval | None
    verdicts: dict[str, str]


def ranked(rows: Sequence[Row]) -> list[Ranked]:
    """Return the rows by average, those without one last, and compare every run with every other row.

    Two runs are compared by their answers (exact McNemar test). Of a published row only the percentage is known: the
    run and the row are compared as if they had answered different questions of the same number (Fisher's exact test),
    which finds less. The p-values of a run are corrected for the number of rows (Holm 1979).
    """
    averages = [row.average for row in rows if row.average is not None and row.is_system]
    runs = [row for row in rows if row.outcomes is not None]
    verdicts = dict(zip(distinct([run.model for run in runs]), (_verdicts(run, rows) for run in runs), strict=True))
    found = []
    for place, row in enumerate(rows):
        rank = None if row.average is None or not row.is_system else 1 + sum(other > row.average for other in averages)
        right = row.outcomes
        interval = None if right is None else wilson(sum(right), len(right))
        told = {run: verdicts[run][place] for run in verdicts if verdicts[run][place]}
        found.append(Ranked(row, rank, interval, told))
    return sorted(found, key=lambda one: (one.rank is None, one.rank or 0))


def _verdicts(run: Row, rows: Sequence[Row]) -> list[str]:
    """Return what the run is against each row: better, worse, not decided, or nothing to say."""
    from statsmodels.stats.multitest import multipletests

    compared = [place for place, row in enumerate(rows) if row is not run and row.average is not None]
    verdicts = [""] * len(rows)
    if not compared or run.average is None:
        return verdicts
    values = [_p_value(run, rows[place]) for place in compared]
    adjusted = multipletests(values, method="holm")[1]
    for place, value in zip(compared, adjusted, strict=True):
        other = rows[place].average
        assert other is not None
        verdicts[place] = "not decided" if value >= SIGNIFICANCE else "better" if run.average > other else "worse"
    return verdicts


def _p_value(run: Row, other: Row) -> float:
    from scipy.stats import fisher_exact

    assert run.outcomes is not None
    if other.outcomes is not None:
        only_run = sum(a and not b for a, b in zip(run.outcomes, other.outcomes, strict=True))
        only_other = sum(b and not a for a, b in zip(run.outcomes, other.outcomes, strict=True))
        return mcnemar(only_run, only_other)
    assert other.average is not None
    count = len(official_pids())
    right, published = sum(run.outcomes), round(other.average / 100 * count)
    return float(fisher_exact([[right, count - right], [published, count - published]]).pvalue)
