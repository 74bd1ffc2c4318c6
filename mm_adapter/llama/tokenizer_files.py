"""Finds and reads the tokenizer in a model's folder."""

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from mm_adapter.errors import UserError
from mm_adapter.files import read_json
from mm_adapter.llama.tiktoken import is_tiktoken, read_tiktoken
from mm_adapter.llama.tokenizer import FastTokenizer, SentencePieceTokenizer, Tokenizer


def read_tokenizer(folder: Path, end_tokens: Sequence[int]) -> Tokenizer | None:
    """Return the tokenizer in a model's folder, or None where there is none.

    Args:
        folder: holds ``tokenizer.json``, or ``tokenizer.model`` of SentencePiece or of Llama 3.
        end_tokens: of the model's configuration; used where ``tokenizer_config.json`` names none.

    Raises:
        UserError: a file is damaged, or nothing says how a sequence ends.
    """
    fast, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    if fast.is_file():
        return _read_fast(fast, end_tokens)
    if not pieces.is_file():
        return None
    return read_tiktoken(pieces) if is_tiktoken(pieces) else SentencePieceTokenizer(pieces)


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
