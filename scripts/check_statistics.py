"""Intervals cover what they should and tests find what they should, on systems whose true worth is known.

    python scripts/check_statistics.py [--systems N] [--json FILE]

Systems are simulated: a true accuracy (or two, with a known share of questions that part them), answers drawn from it.

- 95 % intervals of an accuracy (Wilson) contain the true one in 94 to 96.5 % of systems, at n = 50, 400 and 4,241
  questions; so does the paired bootstrap of a difference. True accuracies are uniform from 30 to 95 %. The bootstrap
  that draws whole skills covers the accuracy over all skills, where skills are right or wrong together.
- Where two systems are equally good, the exact McNemar test parts them in at most 5.5 % of cases.
- A true difference of 3 points at n = 4,241 is found in at least 80 % of cases, for every share of parting questions at
  which the power of the test, computed beforehand from the binomial distribution, is at least 80 %.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from bars import bar, write_bars
from scipy.stats import binom

from mm_adapter.core.progress import with_progress
from mm_adapter.eval.comparison import SIGNIFICANCE, mcnemar
from mm_adapter.eval.intervals import bootstrapped, clustered, wilson

SIZES = (50, 400, 4241)
APART = (0.05, 0.1, 0.2, 0.3, 0.4)  # shares of questions that part two systems
DIFFERENCE = 0.03
WANTED = 0.8


def wilson_coverage(size: int, systems: int, generator: np.random.Generator) -> float:
    """Return the share of systems whose true accuracy is in its interval."""
    inside = 0
    for accuracy in generator.uniform(0.3, 0.95, systems):
        found = wilson(int(generator.binomial(size, accuracy)), size)
        inside += found is not None and 100 * accuracy in found
    return inside / systems


def difference_coverage(size: int, systems: int, generator: np.random.Generator) -> float:
    """Return the share of pairs whose true difference is in its bootstrap interval."""
    inside = 0
    for system in range(systems):
        only_first, only_second = generator.uniform(0.05, 0.25, 2)
        counts = generator.multinomial(size, [only_first, only_second, 1 - only_first - only_second])
        found = bootstrapped(np.repeat([-1.0, 1.0, 0.0], counts).tolist(), seed=system)
        inside += found is not None and 100 * (only_second - only_first) in found
    return inside / systems


def skill_coverage(skills: int, systems: int, generator: np.random.Generator) -> float:
    """Return the share of systems whose true accuracy over all skills is in the interval that draws skills.

    Skills have 5 to 40 questions; a system has each with a chance of its own, 2/3 on average (beta with 2 and 1).
    """
    inside = 0
    for system in range(systems):
        sizes = generator.integers(5, 41, skills)
        right = generator.random(sizes.sum()) < np.repeat(generator.beta(2, 1, skills), sizes)
        names = np.repeat(np.arange(skills), sizes).astype(str).tolist()
        found = clustered(right.astype(float).tolist(), names, seed=system)
        inside += found is not None and 100 * 2 / 3 in found
    return inside / systems


def found_share(size: int, apart: float, difference: float, systems: int, generator: np.random.Generator) -> float:
    """Return the share of pairs that McNemar's test parts, of a true difference and share of parting questions."""
    shares = [(apart - difference) / 2, (apart + difference) / 2, 1 - apart]
    counts = generator.multinomial(size, shares, systems)
    return float(np.mean([mcnemar(int(first), int(second)) < SIGNIFICANCE for first, second, _ in counts]))


def power(size: int, apart: float, difference: float) -> float:
    """Return how often the exact test finds the difference, by summing over how many questions part the systems."""
    total, share = 0.0, (apart + difference) / (2 * apart)
    low, high = binom.ppf([1e-6, 1 - 1e-6], size, apart)
    for parted in range(int(low), int(high) + 1):
        # The largest count below half that the two-sided test at this level still rejects.
        reach = int(binom.ppf(SIGNIFICANCE / 2, parted, 0.5)) - 1
        while 2 * binom.cdf(reach + 1, parted, 0.5) < SIGNIFICANCE:
            reach += 1
        rejected = binom.cdf(reach, parted, share) + binom.sf(parted - reach - 1, parted, share)
        total += binom.pmf(parted, size, apart) * rejected
    return float(total)


def main() -> int:
    """Simulate, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=int, default=2000, help="simulated for every figure")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    generator, systems = np.random.default_rng(options.seed), options.systems
    bars = []
    for size in with_progress(SIZES, "sizes", "size"):
        covered = wilson_coverage(size, systems, generator)
        bars.append(bar(f"Wilson, n = {size}: coverage", covered, 0.94, 0.94 <= covered <= 0.965))
        covered = difference_coverage(size, systems, generator)
        bars.append(bar(f"paired bootstrap, n = {size}: coverage", covered, 0.94, 0.94 <= covered <= 0.965))
        for apart in (0.1, 0.4):
            wrong = found_share(size, apart, 0.0, systems, generator)
            bars.append(bar(f"McNemar, n = {size}, {apart:.0%} apart: false positives", wrong, 0.055, wrong <= 0.055))
    for skills in (100, 300):
        covered = skill_coverage(skills, systems, generator)
        bars.append(bar(f"bootstrap of {skills} skills: coverage", covered, 0.94, 0.94 <= covered <= 0.965))
    for apart in APART:
        expected = power(4241, apart, DIFFERENCE)
        found = found_share(4241, apart, DIFFERENCE, systems, generator)
        # Where the analysis says less, the simulation is to agree with it, and no more is promised.
        limit = WANTED if expected >= WANTED else expected - 0.03
        name = f"3 points, n = 4241, {apart:.0%} apart (power {expected:.3f}): found"
        bars.append(bar(name, found, limit, found >= limit))
    for found_bar in bars:
        verdict = "holds" if found_bar["holds"] else "MISSED"
        print(f"{verdict:7}{found_bar['name']:68} {found_bar['value']:.4f}  bar {found_bar['bar']:.3f}")
    if options.json is not None:
        write_bars(options.json, bars)
    return 0


if __name__ == "__main__":
    sys.exit(main())
