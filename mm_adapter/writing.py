"""How a text is written, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from mm_adapter.errors import UserError
from mm_adapter.sampling import Sampling

_SEEDS = 1 << 63


@dataclass(frozen=True)
class Writing:
    """How a text is written.

    Attributes:
        max_new_tokens: limit of its length.
        sampling: how tokens are chosen; the most likely one by default.
        stops: strings that end it; they are not part of it.
        seed: of the draws; None for another text each time.
    """

    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    stops: Sequence[str] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1.")
        if not all(self.stops):
            raise UserError("a stop string is empty, so there would be no text; leave it out.")
        if self.seed is not None and not 0 <= self.seed < _SEEDS:
            raise UserError(f"seed is {self.seed}; it must be from 0 to {_SEEDS - 1}.")

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Return the source of randomness; None for the process's own."""
        return None if self.seed is None else torch.Generator(device).manual_seed(self.seed)


@dataclass(frozen=True)
class Written:
    """A text that a model wrote.

    Attributes:
        text: without the stop string that ended it.
        tokens: how many were written for it.
        finished: it came to its end, and was not cut off at a limit.
    """

    text: str
    tokens: int
    finished: bool
