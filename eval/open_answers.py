"""Stub until the helper's file is merged."""

from collections.abc import Sequence
from typing import Any


class S:
    each: list[dict[str, Any]]

    def __init__(self, n: int) -> None:
        self.each = [{} for _ in range(n)]

    def to_json(self) -> dict[str, float]:
        return {"exact_match": 0.0}


def score_open_answers(responses: Sequence[str], references: Sequence[Sequence[str]]) -> S:
    return S(len(responses))
