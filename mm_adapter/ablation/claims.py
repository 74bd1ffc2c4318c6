"""What the paper claims, held against runs: paired by seed, with the t interval of their differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scipy import stats

from mm_adapter.ablation.grid import format_value
from mm_adapter.ablation.result import PointResult
from mm_adapter.ablation.spread import format_setting, group

CONFIDENCE = 0.95
SHOWS, NOT, UNDECIDED = "shows", "does not show", "not decided"
RULE = (
    f"Runs are paired by seed. A claim *{SHOWS}* where the {CONFIDENCE:.0%} t interval of the mean difference lies "
    f"above its bar, *{NOT}* where it lies below, and is *{UNDECIDED}* where the bar lies within: the spread over "
    "seeds is as large as the difference. The bar is 0, and a loss of one point for longer training. One pair has no "
    "spread and decides nothing. The intervals are over seeds; that other questions might have been asked is not in "
    "them."
)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper on one setting.

    Attributes:
        axis: the key of a grid that it is about.
        text: what is claimed.
        figure: of ``PointResult`` that it is about.
        bar: points by which the better value must be ahead; negative where it must not be behind by more.
        order: the values from worse to better; None: as numbers grow.
    """

    axis: str
    text: str
    figure: str = "average"
    bar: float = 0.0
    order: tuple[Any, ...] | None = None


CLAIMS = (
    Claim("attention", "zero-init attention beats random-init", order=("random-init", "zero-init")),
    Claim("layers", "more adapted layers are better"),
    Claim("epochs", "longer training does not hurt accuracy (by a point)", "val_accuracy", bar=-1.0),
    Claim("images", "pictures help", order=(False, True)),
)


@dataclass(frozen=True)
class Finding:
    """A claim held against one pair of settings.

    Attributes:
        claim: what is claimed.
        compared: the two values, better first, and what else was set.
        seeds: pairs.
        difference: mean, in points.
        low, high: of the t interval; None for a single pair.
        verdict: ``shows``, ``does not show`` or ``not decided``.
    """

    claim: str
    compared: str
    seeds: int
    difference: float
    low: float | None
    high: float | None
    verdict: str


def hold(better: Mapping[int, float], worse: Mapping[int, float], bar: float = 0.0) -> tuple[Any, ...] | None:
    """Compare two settings by the seeds that both have.

    Args:
        better, worse: seed -> accuracy in percent.
        bar: see ``Claim``.

    Returns:
        Pairs, mean difference, both ends of its t interval (``scipy.stats.ttest_rel``) or None, and the verdict; None
        where no seed is in both.
    """
    seeds = sorted(better.keys() & worse.keys())
    if not seeds:
        return None
    differences = [better[seed] - worse[seed] for seed in seeds]
    mean = math.fsum(differences) / len(seeds)
    if len(seeds) == 1:
        return 1, mean, None, None, UNDECIDED
    if max(differences) - min(differences) < 1e-9:
        low = high = mean  # no spread at all: the statistic of the test is 0 / 0
    else:
        outcome = stats.ttest_rel([better[seed] for seed in seeds], [worse[seed] for seed in seeds])
        low, high = map(float, outcome.confidence_interval(CONFIDENCE))
    verdict = SHOWS if low > bar else NOT if high < bar or low == high == bar else UNDECIDED
    return len(seeds), mean, low, high, verdict


def findings(results: Sequence[PointResult]) -> list[Finding]:
    """Hold every claim against all neighbouring values of its setting, other settings equal.

    The paper's claims on layers, epochs and pictures are about zero-init attention: its runs alone are looked at.
    """
    found = []
    for claim in CLAIMS:
        rest: dict[str, dict[Any, Mapping[int, float]]] = {}
        for member in group(results):
            config = member.results[0].config
            if claim.axis not in member.setting or (claim.axis != "attention" and config["attention"] != "zero-init"):
                continue
            others = format_setting(member.without(claim.axis))
            rest.setdefault(others, {})[member.setting[claim.axis]] = member.by_seed(claim.figure)
        for others, by_value in rest.items():
            for worse, better in _pairs(claim, list(by_value)):
                held = hold(by_value[better], by_value[worse], claim.bar)
                if held is not None:
                    where = f" ({others})" if others else ""
                    compared = f"{claim.axis} {format_value(better)} over {format_value(worse)}{where}"
                    found.append(Finding(claim.text, compared, *held))
    return found


def _pairs(claim: Claim, values: list[Any]) -> list[tuple[Any, Any]]:
    """Return neighbours from worse to better, and the first with the last where more than two are there."""
    ordered = sorted(values) if claim.order is None else [value for value in claim.order if value in values]
    pairs = list(pairwise(ordered))
    return [*pairs, (ordered[0], ordered[-1])] if len(ordered) > 2 else pairs


def summary(found: Sequence[Finding]) -> list[str]:
    """Return a line for every claim that was held: in how many comparisons it shows, does not, or is not decided."""
    lines = []
    for claim in dict.fromkeys(finding.claim for finding in found):
        verdicts = [finding.verdict for finding in found if finding.claim == claim]
        counts = [
            f"{verdict} in {verdicts.count(verdict)}" for verdict in (SHOWS, NOT, UNDECIDED) if verdict in verdicts
        ]
        lines.append(f"- {claim}: {', '.join(counts)} of {len(verdicts)} comparisons")
    return lines
