"""The vocabulary inside a GGUF file as a tokenizer of the ``tokenizers`` library."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models, normalizers

from mm_adapter.core.errors import UserError
from mm_adapter.llama.tokenizers.tokenizer import FastTokenizer
from mm_adapter.llama.tokenizers.tokenizer_files import LLAMA3_WORDS, WORDS, byte_level_tokenizer, ranked_merges

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # llama.cpp's token types


class PieceTokenizer(FastTokenizer):
    """The vocabulary of a SentencePiece model, whose ids become the very text that SentencePiece makes of them.

    Args:
        unknown: ids that stand for what the vocabulary lacks.
        space_prefix: a sequence is encoded with a space before it, which is taken off again.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, begin: Sequence[int], end: int, unknown: Iterable[int], space_prefix: bool
    ) -> None:
        super().__init__(backend, begin, end)
        self.unknown = frozenset(unknown)
        self.space_prefix = space_prefix
        self.special = frozenset(id for id, token in backend.get_added_tokens_decoder().items() if token.special)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``, special tokens left out; each byte that is part of no letter becomes a mark."""
        parts = [b""]
        for token in ids:
            piece = self.piece(token)
            if token in self.unknown:
                parts[-1] += " \u2047 ".encode()
            elif byte := re.fullmatch("<0x([0-9A-F]{2})>", piece):
                parts[-1] += bytes.fromhex(byte[1])
            elif token in self.special:
                parts.append(b"")  # a letter's bytes do not go on after it
            else:
                parts[-1] += piece.replace("▁", " ").encode()
        # The library's own decoder gives up on a whole run of bytes where one of them is wrong.
        text = "".join(part.decode("utf-8", errors="surrogateescape") for part in parts)
        text = re.sub("[\udc80-\udcff]", "\ufffd", text)
        return text.removeprefix(" ") if self.space_prefix else text


def build_tokenizer(path: Path, values: Mapping[str, Any]) -> FastTokenizer | None:
    """Return the tokenizer of a GGUF file, or None where the file has no vocabulary.

    Args:
        path: named in messages.
        values: metadata of the file.

    Raises:
        UserError: a vocabulary that is damaged, or of a kind that is not supported.
    """
    kind, words = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre", "default")
    if kind is None:
        return None
    if kind not in ("gpt2", "llama"):
        raise UserError(f"{path}: vocabulary of kind {kind!r} is not supported (gpt2 and llama are).")
    if kind == "gpt2" and words not in WORDS:
        raise UserError(f"{path}: word splitting {words!r} is not supported ({', '.join(WORDS)} are).")
    tokens = _column(path, values, "tokens", str)
    types = _column(path, values, "token_type", int, len(tokens)) or [1] * len(tokens)
    scores = _column(path, values, "scores", float, len(tokens)) or [0.0] * len(tokens)
    merges = _column(path, values, "merges", str)
    begin, end = values.get("tokenizer.ggml.bos_token_id"), values.get("tokenizer.ggml.eos_token_id")
    if end is None:
        raise UserError(f"{path}: tokenizer.ggml.eos_token_id is missing; answers could not be ended.")
    if type(end) is not int or (begin is not None and type(begin) is not int):
        raise UserError(f"{path}: tokenizer.ggml.bos_token_id or eos_token_id is not a whole number.")
    space_prefix = bool(values.get("tokenizer.ggml.add_space_prefix", True))
    try:
        if kind == "gpt2":
            pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
            backend = byte_level_tokenizer({text: index for index, text in enumerate(tokens)}, pairs, words)
        else:
            backend = _sentence_piece(tokens, scores, space_prefix)
    except Exception as error:  # the library raises a plain Exception for vocabularies that make no sense
        raise UserError(f"{path}: the vocabulary is damaged ({error}). Fetch the file again.") from error
    special = [text for text, number in zip(tokens, types, strict=True) if number in (_CONTROL, _USER_DEFINED)]
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    # What llama.cpp does where the file is silent.
    usual = kind == "llama" or words in LLAMA3_WORDS
    begins = bool(values.get("tokenizer.ggml.add_bos_token", usual))
    start = [begin] if begins and begin is not None else []
    if kind == "gpt2":
        return FastTokenizer(backend, start, end)
    unknown = [index for index, number in enumerate(types) if number == _UNKNOWN]
    return PieceTokenizer(backend, start, end, unknown, space_prefix)


def _column(path: Path, values: Mapping[str, Any], name: str, kind: type, length: int | None = None) -> list[Any]:
    """Return a list of the vocabulary, empty where the file has none; every item is a ``kind``."""
    column = values.get(f"tokenizer.ggml.{name}", [])
    if not isinstance(column, list) or not all(isinstance(item, kind) for item in column):
        raise UserError(f"{path}: tokenizer.ggml.{name} is not a list of {kind.__name__}; the vocabulary is damaged.")
    if column and length is not None and len(column) != length:
        raise UserError(f"{path}: tokenizer.ggml.{name} has {len(column)} items for {length} tokens.")
    return column


def _sentence_piece(tokens: Sequence[str], scores: Sequence[float], space_prefix: bool) -> tokenizers.Tokenizer:
    vocabulary = {text: index for index, text in enumerate(tokens)}
    merges = ranked_merges({text: -scores[index] for text, index in vocabulary.items()})
    unknown = "<unk>" if "<unk>" in vocabulary else None
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    spaces: list[Any] = [normalizers.Prepend("▁")] if space_prefix else []
    backend.normalizer = normalizers.Sequence([*spaces, normalizers.Replace(" ", "▁")])
    return backend
