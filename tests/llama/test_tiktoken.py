"""Llama 3's vocabulary file: the ids of tiktoken's own rule, special tokens behind the pieces, damage named by line."""

import base64
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from llama_files import random_llama, write_meta, write_tiktoken

from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.tokenizers.chat_template import FAMILIES
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer

WORDS = (
    b"th",
    b"the",
    b" t",
    b" the",
    b"he",
    b" he",
    b"en",
    b" hen",
    b"12",
    b"23",
    b"123",
    b"\xc3\xa9",
    b"\n\n",
    b"aa",
)
# As published in Meta's tokenizer.py.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "the hen, the other hen",
    "12345 hens and 1,234.5",
    "don't, we'LL see",
    "naïve café — 漢字 😀",
    "  spaces   and\n\n\nlines \t\r\n end  ",
    "aaaaa aaa",
    "",
]


def naive_ids(text: str) -> list[int]:
    """Split words, then join the neighbours of the lowest rank until nothing joins."""
    ranks = {piece: rank for rank, piece in enumerate([*(bytes([byte]) for byte in range(256)), *WORDS])}
    ids = []
    for word in regex.findall(SPLIT, text):
        whole = word.encode()
        parts = [whole] if whole in ranks else [bytes([byte]) for byte in whole]
        while True:
            pairs = [(ranks.get(left + right, 10**9), place) for place, (left, right) in enumerate(pairwise(parts))]
            if not pairs or min(pairs)[0] == 10**9:
                break
            place = min(pairs)[1]
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.mark.parametrize("text", TEXTS)
def test_ids_follow_the_ranks(tmp_path: Path, text: str) -> None:
    """The same ids as joining bytes by rank, and the text back."""
    write_tiktoken(tmp_path / "tokenizer.model", WORDS)
    tokenizer = read_tokenizer(tmp_path, ())
    assert tokenizer is not None
    assert tokenizer.encode(text) == naive_ids(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens(tmp_path: Path) -> None:
    """256 special tokens follow the pieces at the places of Llama 3; a model's turns are written with them."""
    folder = write_meta(tmp_path, random_llama(vocab_size=526))
    write_tiktoken(folder / "tokenizer.model", WORDS)
    loaded = load_llama(str(folder))
    tokenizer, base = loaded.tokenizer, 256 + len(WORDS)
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.end, tokenizer.vocab_size) == ((base,), base + 1, base + 256)
    names = {"<|begin_of_text|>": 0, "<|start_header_id|>": 6, "<|end_header_id|>": 7, "<|eot_id|>": 9}
    names |= {"<|reserved_special_token_2|>": 5, "<|reserved_special_token_247|>": 255}
    assert {name: tokenizer.special_id(name) for name in names} == {name: base + at for name, at in names.items()}
    assert loaded.chat is not None
    assert (loaded.chat.name, loaded.chat.end_tokens) == ("llama-3", (base + 9, base + 1))
    assert loaded.chat.template == FAMILIES["llama-3"]
    text = naive_ids("user"), naive_ids("hi"), naive_ids("assistant"), naive_ids("\n\n")
    expected = [
        base,
        base + 6,
        *text[0],
        base + 7,
        *text[3],
        *text[1],
        base + 9,
        base + 6,
        *text[2],
        base + 7,
        *text[3],
    ]
    assert loaded.chat.encode(tokenizer, [{"role": "user", "content": "hi"}]) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"!!! 300", "damaged"),
        (b"YQ==", "damaged"),
        (b"YWI= 7", "rank 7"),
        (b"YQ== 263", "rank 263"),
        (b"YQ= 263", "damaged"),
    ],
)
def test_damaged_lines(tmp_path: Path, line: bytes, message: str) -> None:
    """A line that is no piece and rank, out of order, or there twice is named."""
    path = write_tiktoken(tmp_path / "tokenizer.model")
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UserError, match=f"line 264.*{message}"):
        read_tokenizer(tmp_path, ())


def test_an_incomplete_file(tmp_path: Path) -> None:
    """Without all bytes some text could not be written."""
    lines = [base64.b64encode(bytes([byte])) + b" %d" % byte for byte in range(200)]
    (tmp_path / "tokenizer.model").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match="byte 200 is no piece"):
        read_tokenizer(tmp_path, ())
