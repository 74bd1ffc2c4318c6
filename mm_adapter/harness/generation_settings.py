"""What a harness's task asks of generation, in this project's terms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.inference.generation import Sampling

_KNOWN = ("until", "do_sample", "temperature", "top_p", "top_k")
TEXTS = 16
"""Texts that are written together."""


@dataclass(frozen=True)
class GenerationSettings:
    """How a task wants its texts written.

    Attributes:
        limit: tokens of a text.
        until: strings that end it.
        sampling: how tokens are chosen.
    """

    limit: int
    until: tuple[str, ...]
    sampling: Sampling


def read_generation(asked: Mapping[str, Any], length: str, default: int) -> GenerationSettings:
    """Return what a task asks for.

    Args:
        asked: setting -> value.
        length: the harness's name for the number of new tokens.
        default: that number, where the task says none.

    Raises:
        UserError: a setting that is not known, or whose value cannot be used.
    """
    # One beam is what is done anyway, and most tasks of lmms-eval say so.
    unknown = sorted(set(asked) - {*_KNOWN, length, *(["num_beams"] if asked.get("num_beams") in (1, None) else [])})
    if unknown:
        raise UserError(f"generation setting {unknown[0]!r} is not known; {', '.join((*_KNOWN, length))} are.")
    until = asked.get("until") or ()
    strings: Iterable[str] = (until,) if isinstance(until, str) else until
    sampling = Sampling()
    if asked.get("do_sample", float(asked.get("temperature") or 0) > 0):
        temperature, top_p = asked.get("temperature"), asked.get("top_p")
        sampling = Sampling(
            1.0 if temperature is None else float(temperature),
            int(asked.get("top_k") or 0),
            1.0 if top_p is None else float(top_p),
        )
    limit = asked.get(length)
    return GenerationSettings(
        default if limit is None else int(limit), tuple(text for text in strings if text), sampling
    )
