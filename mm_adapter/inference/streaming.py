"""From tokens to text as they come: whole characters only, up to a stop string."""

from collections.abc import Iterable, Iterator, Sequence

from mm_adapter.llama.tokenizers.tokenizer import Tokenizer

UNFINISHED = "\ufffd"  # what a decoder shows for a character of which bytes are still to come


def stream_texts(steps: Iterable[Sequence[int | None]], texts: "Sequence[TextStream]") -> Iterator[list[str]]:
    """Yield the new text of every row, step by step, until all have ended or met a stop string.

    Args:
        steps: the next token of each row, None where it has ended, see ``inference.generation.stream_tokens``.
        texts: one per row; they gather what is given out.
    """
    for step in steps:
        yield ["" if token is None else text.push(token) for text, token in zip(texts, step, strict=True)]
        if all(token is None or text.stopped for text, token in zip(texts, step, strict=True)):
            break
    yield [text.finish() for text in texts]


class TextStream:
    """Gathers one continuation's tokens and gives out text that is certain.

    Text that may still turn out to be part of a stop string, or part of a character, is held back.

    Args:
        tokenizer: of the model.
        stops: strings that end the text; they are not part of it.

    Attributes:
        text: given out so far.
        stopped: a stop string was met; further tokens change nothing.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.stops = tokenizer, [stop for stop in stops if stop]
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; return the new text that it made certain, often empty."""
        if self.stopped:
            return ""
        self.ids.append(token)
        whole = self.tokenizer.decode(self.ids)
        ends = [position for stop in self.stops if (position := whole.find(stop)) >= 0]
        if ends:
            self.stopped = True
            return self._give(whole[: min(ends)])
        return self._give(whole[: len(whole) - self._held(whole)])

    def finish(self) -> str:
        """Return what was held back, at the end of the tokens."""
        return "" if self.stopped else self._give(self.tokenizer.decode(self.ids))

    def _held(self, whole: str) -> int:
        unfinished = len(whole) - len(whole.rstrip(UNFINISHED))
        begun = [length for stop in self.stops for length in range(1, len(stop)) if whole.endswith(stop[:length])]
        return max([unfinished, *begun])

    def _give(self, certain: str) -> str:
        new = certain[len(self.text) :]
        self.text += new
        return new
