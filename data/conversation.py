"""Conversations and single instructions, as readers hand them over."""

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
    """

    id: str
    turns: tuple[Turn, ...]
    image: Path | None = None

    @property
    def exchanges(self) -> list[tuple[Turn, Turn]]:
        """Each request with its response."""
        return list(zip(self.turns[::2], self.turns[1::2], strict=True))


@dataclass(frozen=True)
class Instruction:
    """One sample in the format of Stanford Alpaca's 52K.

    Attributes:
        id: the dataset's own, or the place in its file.
        instruction: the task.
        output: the response; a few of the 52K are empty.
        input: what the task is about; empty where there is none.
        source: where the sample was taken from; empty where the file does not say.
    """

    id: str
    instruction: str
    output: str
    input: str = ""
    source: str = ""

    def to_conversation(self) -> Conversation:
        """Return the same as a single exchange."""
        return Conversation(self.id, (Turn(USER, self.instruction, self.input), Turn(ASSISTANT, self.output)))
