"""Choosing the next token from logits: greedy, or a seeded draw from what is left of the distribution."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mm_adapter.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How a next token is chosen.

    Attributes:
        temperature: 0 for the most likely token; else, from 1e-5 up, logits are divided by it before the draw.
        top_k: draw from this many most likely tokens alone; 0 for all.
        top_p: draw from the fewest tokens whose probabilities reach this sum (arXiv 1904.09751, section 3.1).
        repetition_penalty: from 0.01 to 100; over 1 makes tokens that stand in prompt or answer less likely
            (arXiv 1909.05858, section 4.1): positive logits are divided by it, negative ones multiplied.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        # Less would leave the range of float32 when logits are divided by it.
        if self.temperature != 0 and not 1e-5 <= self.temperature < float("inf"):
            raise UserError(f"temperature is {self.temperature}; it must be 0, or at least 1e-5 and finite.")
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}; it must be 0 (all tokens) or a number of tokens.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; it must be over 0 and at most 1.")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise UserError(f"repetition_penalty is {self.repetition_penalty}; it must be from 0.01 to 100.")

    def choose(self, logits: Tensor, seen: Sequence[Sequence[int]], generator: torch.Generator | None = None) -> Tensor:
        """Return the next token of each row, ``(B,)`` int64.

        Args:
            logits: ``(B, V)`` float32.
            seen: token ids of each row so far.
            generator: source of randomness where tokens are drawn.
        """
        if self.repetition_penalty != 1:
            logits = self._penalise(logits, seen)
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        probabilities = self._narrow(logits / self.temperature).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    def _penalise(self, logits: Tensor, seen: Sequence[Sequence[int]]) -> Tensor:
        logits = logits.clone()
        for row, ids in zip(logits, seen, strict=True):
            chosen = torch.tensor(sorted(set(ids)), device=logits.device, dtype=torch.int64)
            values = row[chosen]
            row[chosen] = torch.where(values > 0, values / self.repetition_penalty, values * self.repetition_penalty)
        return logits

    def _narrow(self, logits: Tensor) -> Tensor:
        """Put what must not be drawn at minus infinity; the most likely token always stays."""
        if self.top_k and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            probabilities = ordered.softmax(dim=-1)
            before = probabilities.cumsum(dim=-1) - probabilities
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= self.top_p)
            logits = logits.masked_fill(dropped, float("-inf"))
        return logits
