"""Llama 3's ``tokenizer.model``: lines of a base64 piece and its rank, as tiktoken writes them."""

import base64
import re
from pathlib import Path

from tokenizers import AddedToken, pre_tokenizers

from mm_adapter.errors import UserError
from mm_adapter.llama.byte_level import byte_level_tokenizer, ranked_merges
from mm_adapter.llama.tokenizer import FastTokenizer

_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) (\d{1,8})")
_RESERVED = 256
# Llama 3.1's names; 3.0 calls some of them reserved. The file itself has none of them.
_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}


def is_tiktoken(path: Path) -> bool:
    """Tell a file of ranks from a SentencePiece model by its first line."""
    with open(path, "rb") as file:
        return _LINE.fullmatch(file.readline(1024).rstrip(b"\r\n")) is not None


def read_tiktoken(path: Path) -> FastTokenizer:
    """Return Llama 3's tokenizer: its pieces by rank, then 256 special tokens; sequences begin with the first of them.

    Raises:
        UserError: a line is damaged, or the pieces are not all there.
    """
    ranks: dict[str, float] = {}
    letters = _letters()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        match = _LINE.fullmatch(line)
        try:
            if match is None:
                raise ValueError("not a piece in base64 and its rank")
            piece = "".join(letters[byte] for byte in base64.b64decode(match[1], validate=True))
        except ValueError as error:
            raise UserError(f"{path}: line {number} is damaged ({error}). Fetch the file again.") from error
        if int(match[2]) != len(ranks) or piece in ranks:
            raise UserError(
                f"{path}: line {number} has rank {int(match[2])}, expected {len(ranks)} and a new piece. "
                "Fetch the file again."
            )
        ranks[piece] = len(ranks)
    missing = [byte for byte, letter in enumerate(letters) if letter not in ranks]
    if missing:
        raise UserError(f"{path}: the byte {missing[0]} is no piece; the file is incomplete. Fetch it again.")
    vocabulary = {piece: index for index, piece in enumerate(ranks)}
    backend = byte_level_tokenizer(vocabulary, ranked_merges(ranks), "llama-bpe")
    names = iter(range(_RESERVED))
    special = [_NAMED.get(place) or f"<|reserved_special_token_{next(names)}|>" for place in range(_RESERVED)]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return FastTokenizer(backend, [len(ranks)], len(ranks) + 1)


def _letters() -> list[str]:
    """Return the printable letter that stands for each byte in byte-level vocabularies."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    letters = [chr(byte) if byte in own else chr(next(spare)) for byte in range(256)]
    assert sorted(letters) == sorted(pre_tokenizers.ByteLevel.alphabet())
    return letters
