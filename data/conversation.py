"""Conversations: as readers hand them over, as text in a template, and as token ids."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

USER, ASSISTANT = "user", "assistant"


@dataclass(frozen=True)
class Turn:
    """What one side says.

    Attributes:
        role: ``user`` or ``assistant``.
        text: what is said.
        context: text that a request is about (``input`` in Alpaca's format); empty where there is none.
        system: what the system says before the first request of a conversation; empty where it says nothing.
    """

    role: str
    text: str
    context: str = ""
    system: str = ""


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


@dataclass(frozen=True)
class Request:
    """A user's turn as text.

    Attributes:
        lead, system, before, body, after: concatenated they are the prompt; only ``body`` may be shortened, from its
            end. ``system`` and ``body`` are what somebody says, the others are the template's.
    """

    before: str
    body: str
    after: str
    lead: str = ""
    system: str = ""

    @property
    def text(self) -> str:
        """The whole."""
        return self.lead + self.system + self.before + self.body + self.after


class ConversationTemplate(Protocol):
    """Text around a user's turns."""

    @property
    def system_refusal(self) -> str:
        """Why what the system says cannot be written, with the remedy; empty where the template has a place for it."""
        ...

    def render(self, turn: Turn, first: bool = True) -> Request:
        """Return a user's turn as text, behind what the system says in it.

        Raises:
            UserError: the template has no place for what the system says.
        """
        ...


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation as token ids.

    Attributes:
        id: of the conversation.
        tokens: T ids.
        targets: T flags, true for ids of a response and the end token after it: those count in the loss.
        image: file of the picture, or None.
        cut_request, cut_response: tokens of the first exchange that were left out to fit.
        dropped_exchanges: later ones that were left out whole.
    """

    id: str
    tokens: tuple[int, ...]
    targets: tuple[bool, ...]
    image: Path | None = None
    cut_request: int = 0
    cut_response: int = 0
    dropped_exchanges: int = 0
