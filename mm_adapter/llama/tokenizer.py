"""Text to token ids and back, the same four calls for every vocabulary format."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece
import tokenizers

from mm_adapter.errors import UserError
from mm_adapter.files import read_json


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
        self.vocab_size = backend.get_vocab_size()
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


class SentencePieceTokenizer:
    """A ``tokenizer.model`` of SentencePiece (LLaMA 1 and 2, Mistral)."""

    def __init__(self, path: Path) -> None:
        try:
            self.backend = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: not a SentencePiece model ({error}).") from error
        self.begin: tuple[int, ...] = (self.backend.bos_id(),) if self.backend.bos_id() >= 0 else ()
        self.end = self.backend.eos_id()
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


def read_tokenizer(folder: Path, end_tokens: Sequence[int]) -> Tokenizer | None:
    """Return the tokenizer in a model's folder, or None where there is none.

    Args:
        folder: holds ``tokenizer.json`` or ``tokenizer.model``.
        end_tokens: of the model's configuration; used where ``tokenizer_config.json`` names none.
    """
    fast, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    if fast.is_file():
        return _read_fast(fast, end_tokens)
    return SentencePieceTokenizer(pieces) if pieces.is_file() else None


def _read_fast(path: Path, end_tokens: Sequence[int]) -> FastTokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a plain Exception for every malformed file
        raise UserError(f"{path}: not a tokenizer file ({error}).") from error
    # Files may ask for truncation and padding; here neither is ever wanted.
    backend.no_truncation()
    backend.no_padding()
    end = _named_end(path.with_name("tokenizer_config.json"), backend)
    if end is None and end_tokens:
        end = end_tokens[0]
    if end is None:
        candidates = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>")
        end = next((backend.token_to_id(name) for name in candidates if backend.token_to_id(name) is not None), None)
    if end is None:
        raise UserError(f"{path}: no end-of-sequence token is named in tokenizer_config.json or config.json.")
    begin = [token for token in backend.encode("", add_special_tokens=True).ids if token != end]
    return FastTokenizer(backend, begin, end)


def _named_end(path: Path, backend: tokenizers.Tokenizer) -> int | None:
    if not path.is_file():
        return None
    settings = read_json(path, "tokenizer configuration")
    name = settings.get("eos_token") if isinstance(settings, dict) else None
    if isinstance(name, dict):
        name = name.get("content")
    return backend.token_to_id(name) if isinstance(name, str) else None
