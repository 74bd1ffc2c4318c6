"""The prompt of Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca), with and without input.

The wording is that of the 52K's published training: adapters and models trained with it expect it to the letter.
"""

from dataclasses import dataclass

from mm_adapter.data.conversation import Turn

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


@dataclass(frozen=True)
class Request:
    """A user's turn as text.

    Attributes:
        before, body, after: concatenated they are the prompt; only ``body`` may be shortened, from its end.
    """

    before: str
    body: str
    after: str

    @property
    def text(self) -> str:
        """The whole."""
        return self.before + self.body + self.after


class AlpacaTemplate:
    """Alpaca's prompt. It was published for single requests; later ones go on with the same headings."""

    def render(self, turn: Turn, first: bool = True) -> Request:
        """Return a user's turn as text; what describes the task stands before the first one alone."""
        preamble = (WITH_INPUT if turn.context else WITHOUT_INPUT) if first else ""
        body = f"{turn.text}\n\n### Input:\n{turn.context}" if turn.context else turn.text
        return Request(f"{preamble}\n\n### Instruction:\n", body, "\n\n### Response:")
