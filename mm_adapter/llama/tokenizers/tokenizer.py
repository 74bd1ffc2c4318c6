"""Tokenizers: text to ids and back, and text that comes piece by piece while ids are written."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece
import tokenizers

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import refuse_pointer


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

    @property
    def controls(self) -> tuple[str, ...]:
        """Spellings that ``encode`` makes one control token of, such as ``<|im_end|>``."""
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


SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""What may stand beside the vocabulary in a Hugging Face folder."""

_USUAL_ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>")


def choose_end(path: Path, named: int | None, end_tokens: Sequence[int], backend: tokenizers.Tokenizer) -> int:
    """Return the id that ends a sequence.

    Args:
        path: of the vocabulary, for the message.
        named: what the tokenizer's settings name; None where they name nothing.
        end_tokens: of the model's configuration, which counts next; early conversions state the id of ``<s>`` there.
        backend: whose usual names count last.

    Raises:
        UserError: nothing says it.
    """
    stated = [token for token in end_tokens if backend.id_to_token(token) != "<s>"]
    usual = [token for token in map(backend.token_to_id, _USUAL_ENDS) if token is not None]
    candidates = [*([] if named is None else [named]), *stated, *usual, *end_tokens]
    if not candidates:
        raise UserError(f"{path}: no end-of-sequence token is named in tokenizer_config.json or config.json.")
    return candidates[0]


class FastTokenizer:
    """A vocabulary that the ``tokenizers`` library runs (tokenizer.json, GGUF).

    Args:
        backend: of the library.
        begin, end: ids around a sequence.
        names: text of the special tokens by role, such as ``bos_token``, as a Hugging Face folder names them; None
            elsewhere.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, begin: Sequence[int], end: int, names: Mapping[str, str] | None = None
    ) -> None:
        self.backend = backend
        self.names = names
        self.begin = tuple(begin)
        self.end = end
        # Ids may have gaps where tokens were added by hand: the largest counts.
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
        # Chat formats that were added later are often not marked as special; runs of spaces are no control tokens.
        self.controls = tuple(
            token.content
            for token in backend.get_added_tokens_decoder().values()
            if token.special or re.fullmatch(r"<.+>|\[.+\]", token.content)
        )
        first = backend.encode("x", add_special_tokens=False).tokens
        self.adds_space = bool(first) and first[0].startswith("▁")

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` alone, no special tokens added.

        Raises:
            UserError: the text is no Unicode, as bytes in another encoding than that of a terminal are.
        """
        try:
            return self.backend.encode(text, add_special_tokens=False).ids
        except TypeError:
            found = re.search("[\ud800-\udfff]", str(text))
            near = str(text)[max(0, found.start() - 20) :] if found else str(text)
            shown = near[:60].encode("ascii", "backslashreplace").decode()
            raise UserError(f"the text {shown!r} has bytes that are no UTF-8; write it in UTF-8.") from None

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
            refuse_pointer(path)
            raise UserError(f"{path}: not a SentencePiece model ({error}).") from error
        self.begin: tuple[int, ...] = (self.backend.bos_id(),) if self.backend.bos_id() >= 0 else ()
        self.end = self.backend.eos_id()
        if self.end < 0:
            raise UserError(
                f"{path}: the SentencePiece model has no end-of-sequence piece; answers could not be ended."
            )
        self.vocab_size = self.backend.vocab_size()
        self.controls: tuple[str, ...] = ()  # SentencePiece finds none in a text

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


UNFINISHED = "\ufffd"  # what a decoder shows for a character of which bytes are still to come


_WINDOW, _CONTEXT = 64, 16  # tokens: decoded again at most, and kept before them


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

    Text that may still turn out to be part of a stop string, or part of a character, is held back. Only the last tokens
    are decoded again with each new one: what a token adds depends on those right before it alone.

    Args:
        tokenizer: of the model.
        stop_strings: strings that end the text; they are not part of it.

    Attributes:
        text: given out so far.
        stopped: a stop string was met; further tokens change nothing.
    """

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str] = ()) -> None:
        self.tokenizer, self.stop_strings = tokenizer, [stop for stop in stop_strings if stop]
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        self._settled, self._known = "", ""  # all text up to a token, and what the last tokens before it say alone
        self._context = 0  # the first of these last tokens
        self._next_look = _WINDOW

    def push(self, token: int) -> str:
        """Add a token; return the new text that it made certain, often empty."""
        if self.stopped:
            return ""
        self.ids.append(token)
        whole = self._decoded()
        ends = [position for stop in self.stop_strings if (position := whole.find(stop)) >= 0]
        if ends:
            self.stopped = True
            return self._give(whole[: min(ends)])
        return self._give(whole[: len(whole) - self._held(whole)])

    def finish(self) -> str:
        """Return what was held back, at the end of the tokens."""
        return "" if self.stopped else self._give(self._decoded())

    def _decoded(self) -> str:
        """Return the text of all tokens."""
        near = self.tokenizer.decode(self.ids[self._context :])
        whole = self._settled + near[len(self._known) :]
        if len(self.ids) >= self._next_look:
            known = self.tokenizer.decode(self.ids[-_CONTEXT:])
            # The last tokens alone must say what they say here, or they are no ground to go on from.
            if known and near.endswith(known) and UNFINISHED not in known:
                self._settled, self._known = whole, known
                self._context, self._next_look = len(self.ids) - _CONTEXT, len(self.ids) + _WINDOW
        return whole

    def _held(self, whole: str) -> int:
        # The beginning of a stop string is held with the begun character after it, which may be the string's next.
        complete = whole.rstrip(UNFINISHED)
        begun = [
            length for stop in self.stop_strings for length in range(1, len(stop)) if complete.endswith(stop[:length])
        ]
        return len(whole) - len(complete) + max(begun, default=0)

    def _give(self, certain: str) -> str:
        new = certain[len(self.text) :]
        self.text += new
        return new
