"""Byte-level BPE (GPT-2, SmolLM, Llama 3) as a tokenizer of the ``tokenizers`` library."""

from collections.abc import Iterable, Mapping

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

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
