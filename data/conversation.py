"""Conversations, as readers hand them over."""

from dataclasses import dataclass
from pathlib import Path

USER, ASSISTANT = "user", "assistant"


@dataclass(frozen=True)
class Turn:
    """What one side says.

    Attributes:
        role: ``user`` or ``assistant``.
        text: what is said.
        context: text that a request is about (``input`` in Alpaca's format); empty where there is none.
    """

    role: str
    text: str
    context: str = ""


@dataclass(frozen=True)
class Conversation:
    """Requests and responses about one picture or none.

    Attributes:
        id: the dataset's own, or the place in its file.
        turns: user and assistant by turns; the user begins, the assistant ends.
        image: file of the picture, or None.
        references: all answers to an open question with several annotators; else empty.
    """

    id: str
    turns: tuple[Turn, ...]
    image: Path | None = None
    references: tuple[str, ...] = ()

    @property
    def exchanges(self) -> list[tuple[Turn, Turn]]:
        """Each request with its response."""
        return list(zip(self.turns[::2], self.turns[1::2], strict=True))
