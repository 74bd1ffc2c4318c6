"""Find and read the tokenizer in a model's folder: tokenizer.json, SentencePiece, or Llama 3's ``tokenizer.model``.

The last has lines of a base64 piece and its rank, as tiktoken writes them.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json
from mm_adapter.llama.tokenizers.tokenizer import FastTokenizer, SentencePieceTokenizer, Tokenizer

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = ("llama-bpe", "llama3", "llama-v3")
WORDS = (*LLAMA3_WORDS, "smollm", "gpt-2", "default")


def byte_level_tokenizer(
    vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]], words: str
) -> tokenizers.Tokenizer:
    """Return a tokenizer of the given pieces.

    Args:
        vocabulary: id of each piece, its bytes spelled in GPT-2's printable letters.
        merges: pairs of pieces that are joined, the first first.
        words: how text is split before pieces are joined, by llama.cpp's names; one of ``WORDS``.
    """
    of_llama3 = words in LLAMA3_WORDS
    backend = tokenizers.Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges), ignore_merges=of_llama3))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not of_llama3)
    steps: list[pre_tokenizers.PreTokenizer] = [byte_level]
    if words == "smollm":
        steps = [pre_tokenizers.Digits(individual_digits=True), byte_level]
    elif of_llama3:
        steps = [pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated"), byte_level]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    return backend


def ranked_merges(ranks: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return every way to make a piece of two others, the pieces in ascending order of ``ranks``.

    Vocabularies that name no merges join the two neighbours whose union ranks first; as a list of merges, that is every
    split of every piece.
    """
    order = {piece: place for place, piece in enumerate(ranks)}
    ranked = []
    for piece, rank in ranks.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in order and right in order:
                ranked.append((rank, order[left], order[right], left, right))
    return [(left, right) for *_, left, right in sorted(ranked)]


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
