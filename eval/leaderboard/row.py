"""One result on the leaderboard."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mm_adapter.core.errors import UserError

MOST_PARAMETERS = 10**15
_UNITS = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000, "T": 1_000_000_000_000}


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        model: its name.
        method, learning, size: as published: VLM, LLM, ...; Fine-tune, Few-shot, Zero-shot; parameters. Empty if not.
        tuned: trained parameters; None where not published.
        source: link to where it was published; empty for a run that was not.
        date: of publication, ISO 8601.
        accuracies: column of the official table -> percent; None where not published.
        outcomes: of a run, whether each official test question is right, in the order of `official_pids`; None for a
            published row, of which only percentages are known.
        recorded: of a run, whether it said itself what it answered, so that changed answers were noticed.
    """

    model: str
    method: str
    learning: str
    size: str
    tuned: int | None
    source: str
    date: str
    accuracies: Mapping[str, float | None]
    outcomes: tuple[bool, ...] | None = field(default=None, repr=False)
    recorded: bool = True

    @property
    def is_system(self) -> bool:
        """Whether it competes; people and chance, which have no method, are there to be compared with."""
        return bool(self.method) or self.outcomes is not None

    @property
    def average(self) -> float | None:
        """Accuracy on all questions, in percent."""
        return self.accuracies["Avg"]


def parameters(text: str) -> int | None:
    """Return a number of parameters: ``1.2M`` is 1,200,000; None for an empty text or ``-``.

    Raises:
        UserError: it is no such number.
    """
    text = text.strip().replace(",", "").rstrip("+")
    if text in ("", "-"):
        return None
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([KMBT]?)", text.upper())
    if match is None:
        raise UserError(f"{text!r} is not a number of parameters. Write it as 1800000 or 1.8M.")
    return round(float(match[1]) * _UNITS[match[2]])


def parameters_text(count: int | None) -> str:
    """Return a number of parameters for people: ``1.2M``; ``-`` where it is not known."""
    if count is None:
        return "-"
    for unit in ("T", "B", "M", "K"):
        if count >= _UNITS[unit]:
            return f"{count / _UNITS[unit]:.3g}{unit}"
    return str(count)
