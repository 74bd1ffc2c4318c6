"""Tokens as text, one by one: what log-probabilities are reported of."""

from mm_adapter.llama.tokenizers.tokenizer import UNFINISHED, Tokenizer


class TokenTexts:
    """How single tokens read within a text.

    A control token, or one that is only part of a character, is told by its spelling in the vocabulary, so that no two
    tokens of a list look the same.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # In front of the token, since decoders swallow a space at the beginning.
        self._before = tokenizer.encode("a")
        self._start = tokenizer.decode(self._before)
        self._known: dict[int, str] = {}

    def __call__(self, token: int) -> str:
        """Return the text of a token."""
        if token not in self._known:
            text = self.tokenizer.decode([*self._before, token]).removeprefix(self._start)
            self._known[token] = text if text and UNFINISHED not in text else self.tokenizer.piece(token)
        return self._known[token]

    def bytes_of(self, token: int) -> list[int] | None:
        """Return the bytes of a token's text; None where it is no text of its own."""
        text = self.tokenizer.decode([*self._before, token]).removeprefix(self._start)
        return list(text.encode()) if text and UNFINISHED not in text else None
