"""The vocabulary inside a GGUF file as a tokenizer of the ``tokenizers`` library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from mm_adapter.errors import UserError
from mm_adapter.llama.tokenizer import FastTokenizer

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_tokenizer(path: Path, value: Any) -> FastTokenizer | None:
    """Return the tokenizer of a GGUF file, or None where the file has no vocabulary.

    Args:
        path: named in messages.
        value: looks up a metadata key of the file, with a default.

    Raises:
        UserError: a vocabulary of a kind that is not supported.
    """
    kind = value("tokenizer.ggml.model")
    if kind is None:
        return None
    tokens: list[str] = value("tokenizer.ggml.tokens", [])
    types: list[int] = value("tokenizer.ggml.token_type", [1] * len(tokens))
    if kind == "gpt2":
        backend = _byte_level(path, tokens, value("tokenizer.ggml.merges", []), value("tokenizer.ggml.pre", "default"))
    elif kind == "llama":
        scores = value("tokenizer.ggml.scores", [0.0] * len(tokens))
        backend = _sentence_piece(tokens, scores, bool(value("tokenizer.ggml.add_space_prefix", True)))
    else:
        raise UserError(f"{path}: vocabulary of kind {kind!r} is not supported (gpt2 and llama are).")
    special = [text for text, number in zip(tokens, types, strict=True) if number in (_CONTROL, _USER_DEFINED)]
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    begin, end = value("tokenizer.ggml.bos_token_id"), value("tokenizer.ggml.eos_token_id")
    if end is None:
        raise UserError(f"{path}: tokenizer.ggml.eos_token_id is missing; answers could not be ended.")
    begins = bool(value("tokenizer.ggml.add_bos_token", kind == "llama")) and begin is not None
    return FastTokenizer(backend, [int(begin)] if begins else [], int(end))


def _byte_level(path: Path, tokens: Sequence[str], merges: Sequence[str], words: str) -> tokenizers.Tokenizer:
    vocabulary = {text: index for index, text in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=words == "llama-bpe"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words != "llama-bpe")
    if words == "smollm":
        steps = [pre_tokenizers.Digits(individual_digits=True), byte_level]
    elif words == "llama-bpe":
        steps = [pre_tokenizers.Split(Regex(_LLAMA3_WORDS), behavior="isolated"), byte_level]
    elif words in ("gpt-2", "default"):
        steps = [byte_level]
    else:
        raise UserError(f"{path}: word splitting {words!r} is not supported (smollm, llama-bpe and gpt-2 are).")
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentence_piece(tokens: Sequence[str], scores: Sequence[float], space_prefix: bool) -> tokenizers.Tokenizer:
    vocabulary = {text: index for index, text in enumerate(tokens)}
    # SentencePiece merges the pair whose union scores highest; as ranks, that is every split of every piece by score.
    ranked = []
    for text, index in vocabulary.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocabulary and right in vocabulary:
                ranked.append((-scores[index], vocabulary[left], vocabulary[right], left, right))
    merges = [(left, right) for *_, left, right in sorted(ranked)]
    unknown = "<unk>" if "<unk>" in vocabulary else None
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    spaces: list[Any] = [normalizers.Prepend("▁")] if space_prefix else []
    backend.normalizer = normalizers.Sequence([*spaces, normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if space_prefix else [])])
    return backend
