"""Find and read a model's tokenizer: tokenizer.json, SentencePiece, Llama 3's ranks, or the vocabulary of a GGUF file.

Llama 3's ``tokenizer.model`` has lines of a base64 piece and its rank, as tiktoken writes them.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, refuse_pointer
from mm_adapter.llama.tokenizers.tokenizer import (
    SETTINGS_FILES,
    FastTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    choose_end,
)

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = ("llama-bpe", "llama3", "llama-v3")
WORDS = (*LLAMA3_WORDS, "smaug-bpe", "smollm", "gpt-2", "default")


def byte_level_tokenizer(
    vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]], words: str
) -> tokenizers.Tokenizer:
    """Return a tokenizer of the given pieces.

    Args:
        vocabulary: id of each piece, its bytes spelled in GPT-2's printable letters.
        merges: pairs of pieces that are joined, the first first.
        words: how text is split before pieces are joined, by llama.cpp's names; one of ``WORDS``.
    """
    whole = words in LLAMA3_WORDS  # a word that is a piece is taken whole; Smaug's split is the same without that
    of_llama3 = whole or words == "smaug-bpe"
    backend = tokenizers.Tokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges), ignore_merges=whole))
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
    if not fast.is_file() and not pieces.is_file():
        return None
    ranks = read_tiktoken(pieces) if not fast.is_file() and is_tiktoken(pieces) else None
    if _says_more(folder):
        from mm_adapter.llama.tokenizers.settings import FolderSettings, read_by_transformers, with_names

        settings = FolderSettings(folder)
        if fast.is_file() and not settings.says_nothing:
            return read_by_transformers(settings, end_tokens)
        if fast.is_file():
            return _read_fast(fast, end_tokens)
        if ranks is not None:
            return with_names(settings, ranks)
        from mm_adapter.llama.tokenizers.pieces import PiecesAndTokens

        return PiecesAndTokens(settings)
    if fast.is_file():
        return _read_fast(fast, end_tokens)
    return SentencePieceTokenizer(pieces) if ranks is None else ranks


def _says_more(folder: Path) -> bool:
    """Tell whether a folder of Hugging Face says more than its ``tokenizer.json`` does of how text becomes ids."""
    if any((folder / name).is_file() for name in SETTINGS_FILES):
        return True
    if not (folder / "config.json").is_file():
        return False
    config = read_json(folder / "config.json", "model configuration")
    named = isinstance(config, dict) and config.get("tokenizer_class") is not None
    return named or not (folder / "tokenizer.json").is_file()


def _read_fast(path: Path, end_tokens: Sequence[int]) -> FastTokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a plain Exception for every malformed file
        refuse_pointer(path)
        raise UserError(f"{path}: not a tokenizer file ({error}).") from error
    # Files may ask for truncation and padding; here neither is ever wanted.
    backend.no_truncation()
    backend.no_padding()
    end = choose_end(path, None, end_tokens, backend)
    begin = [token for token in backend.encode("", add_special_tokens=True).ids if token != end]
    return FastTokenizer(backend, begin, end, names={})


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
