"""Seeds of the same setting together: mean and spread of what they came to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mm_adapter.ablation.grid import format_value
from mm_adapter.ablation.result import PointResult


@dataclass(frozen=True)
class Spread:
    """What repeated measurements came to.

    Attributes:
        count: how many there are.
        mean, low, high: of them.
        deviation: sample standard deviation (n - 1); None for a single one.
    """

    count: int
    mean: float
    low: float
    high: float
    deviation: float | None


def spread(values: Sequence[float]) -> Spread:
    """Return mean, range and sample standard deviation of at least one value."""
    found = np.asarray(values, dtype=np.float64)
    deviation = float(np.std(found, ddof=1)) if found.size > 1 else None
    return Spread(found.size, float(np.mean(found)), float(np.min(found)), float(np.max(found)), deviation)


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
        setting: key of the grid -> value, without the seed.
        results: one for each seed.
    """

    setting: dict[str, Any]
    results: tuple[PointResult, ...]

    @property
    def label(self) -> str:
        """The setting in words; empty where only seeds were varied."""
        return format_setting(self.setting)

    @property
    def accuracy(self) -> Spread:
        """Percent right on the split that was answered."""
        return spread([result.average for result in self.results])

    def without(self, axis: str) -> dict[str, Any]:
        """Return the rest of the setting."""
        return {key: value for key, value in self.setting.items() if key != axis}

    def by_seed(self, figure: str) -> dict[int, float]:
        """Return seed -> a figure of ``PointResult``."""
        return {result.seed: getattr(result, figure) for result in self.results}


def format_setting(setting: dict[str, Any]) -> str:
    """Return ``key = value, key = value``."""
    return ", ".join(f"{key} = {format_value(value)}" for key, value in setting.items())


def group(results: Iterable[PointResult]) -> list[Group]:
    """Return the groups of runs that differ in their seed alone, in the order in which they first come."""
    found: dict[str, list[PointResult]] = {}
    for result in results:
        found.setdefault(repr(result.setting), []).append(result)
    return [Group(members[0].setting, tuple(members)) for members in found.values()]
