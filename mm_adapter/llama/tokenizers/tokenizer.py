"""Text to token ids and back, the same four calls for every vocabulary format."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece
import tokenizers

from mm_adapter.core.errors import UserError


class Tokenizer(Protocol):
    """Turns text into token ids and back."""

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids that a sequence starts with; empty where the model was trained without them."""
        ...

    @property
    def end(self) -> int:
        """Id that ends an answer."""
        ...

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to this, exclusive."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` alone, no special tokens added."""
        ...

    def encode_continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as it goes on after other text: without the space that a sequence begins with."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        ...

    def special_id(self, text: str) -> int | None:
        """Return the id of the token that is spelled ``text``, or None where there is none."""
        ...

    def piece(self, token: int) -> str:
        """Return how the token with an id is spelled in the vocabulary."""
        ...


def after_newline(encode: Callable[[str], list[int]], text: str) -> list[int]:
    """Encode ``text`` without the space that SentencePiece puts before a sequence.

    A newline stands in for what came before: a piece of its own in these vocabularies, so its ids can be taken off.
    """
    newline = encode("\n")
    ids = encode("\n" + text)
    return ids[len(newline) :] if ids[: len(newline)] == newline else encode(text)


class FastTokenizer:
    """A vocabulary that the ``tokenizers`` library runs (tokenizer.json, GGUF)."""

    def __init__(self, backend: tokenizers.Tokenizer, begin: Sequence[int], end: int) -> None:
        self.backend = backend
        self.begin = tuple(begin)
        self.end = end
        # Ids may have gaps where tokens were added by hand: the largest counts.
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
        first = backend.encode("x", add_special_tokens=False).tokens
        self.adds_space = bool(first) and first[0].startswith("▁")

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` alone, no special tokens added."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as it goes on after other text."""
        return after_newline(self.encode, text) if self.adds_space else self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        return self.backend.decode(list(ids), skip_special_tokens=True)

    def special_id(self, text: str) -> int | None:
        """Return the id of the token that is spelled ``text``, or None where there is none."""
        return self.backend.token_to_id(text)

    def piece(self, token: int) -> str:
        """Return how the token with an id is spelled in the vocabulary."""
        return self.backend.id_to_token(token) or ""


class SentencePieceTokenizer:
    """A ``tokenizer.model`` of SentencePiece (LLaMA 1 and 2, Mistral)."""

    def __init__(self, path: Path) -> None:
        try:
            self.backend = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: not a SentencePiece model ({error}).") from error
        self.begin: tuple[int, ...] = (self.backend.bos_id(),) if self.backend.bos_id() >= 0 else ()
        self.end = self.backend.eos_id()
        if self.end < 0:
            raise UserError(
                f"{path}: the SentencePiece model has no end-of-sequence piece; answers could not be ended."
            )
        self.vocab_size = self.backend.vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` alone, no special tokens added."""
        return self.backend.encode(text)

    def encode_continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as it goes on after other text."""
        return after_newline(self.encode, text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        return self.backend.decode(list(ids))

    def special_id(self, text: str) -> int | None:
        """Return the id of the token that is spelled ``text``, or None where there is none."""
        token = self.backend.piece_to_id(text)
        return token if self.backend.id_to_piece(token) == text else None

    def piece(self, token: int) -> str:
        """Return how the token with an id is spelled in the vocabulary."""
        return self.backend.id_to_piece(token)
