"""Tokenizers of Hugging Face folders in 21 layouts: ids, begin and end are those of transformers and SentencePiece."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_files import write_tiktoken
from tokenizer_layouts import (
    CHAT,
    FAST,
    LLAMA,
    MARKS,
    PIECES,
    byte_level,
    metaspace,
    write_layout,
    write_pieces,
    write_settings,
)
from tokenizers import AddedToken
from transformers import AutoTokenizer, LlamaTokenizer
from transformers.convert_slow_tokenizer import generate_merges
from transformers.utils import logging

from mm_adapter.core.errors import UserError
from mm_adapter.llama.tokenizers.chat_template import find_chat_template
from mm_adapter.llama.tokenizers.settings import about_versions
from mm_adapter.llama.tokenizers.tokenizer import UNFINISHED, TextStream, Tokenizer
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer

ATOMS = [
    *(
        "the",
        "cat",
        "user",
        " ",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\t",
        "12",
        "345",
        ".",
        "é",
        "漢字",
        "😀",
        "👩‍🔬",
        "ﬁ",
        "▁",
        "Ġ",
    ),
    *("<s>", "</s>", "<unk>", "<pad>", *MARKS, "<|im", "<0x0A>", "[INST]"),
]
TEXTS = st.lists(st.sampled_from(ATOMS) | st.text(max_size=4), max_size=9).map("".join)
PROTOBUF = importlib.util.find_spec("google") is not None and importlib.util.find_spec("google.protobuf") is not None
TURNS = [
    {"role": "user", "content": " Hi <x>, é?"},
    {"role": "assistant", "content": "A hen.\n"},
    {"role": "user", "content": "Why?"},
]
Ids = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return a function that writes the folder of a layout, once."""
    logging.set_verbosity_error()
    root, there = tmp_path_factory.mktemp("layouts"), {}

    def folder(kind: str, name: str) -> Path:
        if (kind, name) not in there:
            there[kind, name] = write_layout(root / f"{kind}-{name}", kind, name)
        return there[kind, name]

    return folder


def read(folder: Path) -> Tokenizer:
    tokenizer = read_tokenizer(folder, (2,))
    assert tokenizer is not None
    return tokenizer


def reference_of_pieces(folder: Path, files: dict[str, Any]) -> Ids:
    """What stands in the folder as transformers reads it; without protobuf, from its class or from SentencePiece."""
    if PROTOBUF:
        library = AutoTokenizer.from_pretrained(folder)
        return lambda text: library(text, add_special_tokens=False).input_ids
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    config = files.get("tokenizer_config", {})
    marks = dict(files.get("added_tokens", {}))
    if "tokenizer_class" in config:
        vocabulary = {model.id_to_piece(token): token for token in range(model.vocab_size())}
        named = {key: value for key, value in config.items() if key not in ("tokenizer_class", "added_tokens_decoder")}
        listed = {int(token): AddedToken(**said) for token, said in config.get("added_tokens_decoder", {}).items()}
        listed |= {token: AddedToken(text, normalized=False, special=True) for text, token in marks.items()}
        listed |= {
            token: AddedToken(text, normalized=False, special=True)
            for text, token in vocabulary.items()
            if model.is_control(token)
        }
        library = LlamaTokenizer(vocabulary, generate_merges(vocabulary), added_tokens_decoder=listed, **named)
        return lambda text: library(text, add_special_tokens=False).input_ids
    marks |= {text: model.piece_to_id(text) for text in ("<s>", "</s>", "<unk>")}
    marks |= {"<pad>": model.vocab_size()} if "special_tokens_map" in files else {}
    pattern = "|".join(map(re.escape, marks))

    def pieces(text: str) -> list[int]:
        parts = re.split(f"({pattern})", text)
        return [token for part in parts for token in ([marks[part]] if part in marks else model.encode(part))]

    return pieces


@pytest.mark.parametrize("name", FAST)
def test_tokenizer_json(layouts: Callable[[str, str], Path], name: str) -> None:
    """Beside tokenizer.json every id is that of AutoTokenizer, and so are begin, end and the text back."""
    folder = layouts("fast", name)
    ours, library = read(folder), AutoTokenizer.from_pretrained(folder)

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(text=TEXTS)
    def same(text: str) -> None:
        expected = library(text, add_special_tokens=False).input_ids
        assert ours.encode(text) == expected
        assert ours.decode(expected) == library.decode(expected, skip_special_tokens=True)

    same()
    assert list(ours.begin) == library("").input_ids
    assert ours.end == (2 if library.eos_token is None else library.eos_token_id)
    assert ours.vocab_size == len(library)


@pytest.mark.parametrize("name", PIECES)
def test_sentence_piece_model(layouts: Callable[[str, str], Path], name: str) -> None:
    """Beside tokenizer.model every id is that of transformers' class, or of SentencePiece between the named tokens."""
    folder, files = layouts("pieces", name), dict(PIECES[name])
    ours, reference = read(folder), reference_of_pieces(folder, files)

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(text=TEXTS)
    def same(text: str) -> None:
        assert ours.encode(text) == reference(text)

    same()
    assert ours.begin == (() if name == "no-begin" else (1,))
    assert ours.end == (341 if name == "added-and-ends" else 2)
    assert ours.decode([1, *ours.encode("the cat é 漢"), 2]) == "the cat é 漢"
    for pieces in (("the", " cat", " sat on"), ("the cat:", "\nmat", " the")):
        joined = ours.encode(pieces[0])
        for piece in pieces[1:]:
            joined = joined + ours.encode_continuation(piece)
        assert joined == ours.encode("".join(pieces))


def test_ranks_of_llama_3(layouts: Callable[[str, str], Path], tmp_path: Path) -> None:
    """Beside Llama 3's tokenizer.model names choose among its tokens; a name or id that is none of them is refused."""
    plain = read(layouts("ranks", ""))
    write_tiktoken(tmp_path / "tokenizer.model")
    named = {"eos_token": "<|eot_id|>", "add_bos_token": False}
    chosen = read(write_settings(tmp_path, {"tokenizer_config": named}))
    assert (chosen.begin, chosen.end) == ((), plain.special_id("<|eot_id|>"))
    assert chosen.encode("the hen <|eot_id|>") == plain.encode("the hen <|eot_id|>")
    for files in ({"tokenizer_config": {"eos_token": "<|im_end|>"}}, {"added_tokens": {"<|eot_id|>": 3}}):
        with pytest.raises(UserError, match=r"<\|(im_end|eot_id)\|>"):
            read(write_settings(tmp_path, files))


@pytest.mark.parametrize(("kind", "name"), [("fast", "chat-end"), ("fast", "added"), ("pieces", "added-and-ends")])
@pytest.mark.parametrize("answer", [True, False])
def test_chats_are_written_as_apply_chat_template(
    layouts: Callable[[str, str], Path], kind: str, name: str, answer: bool
) -> None:
    """Text and ids, with blocks of the assistant's words, dates and JSON in the template."""
    folder = layouts(kind, name)
    if kind == "pieces" and not PROTOBUF:
        pytest.skip("transformers reads tokenizer.model only with protobuf, which is not installed")
    ours, library = read(folder), AutoTokenizer.from_pretrained(folder)
    chat = find_chat_template(ours, CHAT)
    assert chat is not None
    how = {"chat_template": CHAT, "add_generation_prompt": answer}
    assert chat.render(TURNS, answer) == library.apply_chat_template(TURNS, tokenize=False, **how)
    assert chat.encode(ours, TURNS, answer) == library.apply_chat_template(TURNS, return_dict=False, **how)
    assert chat.end_tokens[0] == library.convert_tokens_to_ids("<|im_end|>")
    before, after, _ = chat.around_request(ours)
    assert [*before, *ours.encode_continuation("hi"), *after][-3:] == chat.encode(ours, TURNS[:1])[-3:]


EMPTY = {"bos_token": "", "eos_token": "", "unk_token": ""}


@pytest.mark.parametrize("kind", ["LLaMATokenizer", "LlamaTokenizer", None])
@pytest.mark.parametrize("fast", [True, False])
def test_early_conversions(layouts: Callable[[str, str], Path], tmp_path: Path, kind: str | None, fast: bool) -> None:
    """Empty names and the ids 0 and 1 in config.json are those of no token: it begins with <s> and ends with </s>."""
    files = {} if kind is None else {"tokenizer_config": {**EMPTY, "tokenizer_class": kind}}
    if fast:
        metaspace().save(str(tmp_path / "tokenizer.json"))
    else:
        (tmp_path / "tokenizer.model").write_bytes((layouts("pieces", "alone") / "tokenizer.model").read_bytes())
    write_settings(tmp_path, files, bos_token_id=0, eos_token_id=1)
    tokenizer = read_tokenizer(tmp_path, (1,))
    assert tokenizer is not None
    assert [tokenizer.piece(token) for token in (*tokenizer.begin, tokenizer.end)] == ["<s>", "</s>"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config": {"tokenizer_class": "T5Tokenizer"}}, "T5Tokenizer"),
        ({"tokenizer_config": {"split_special_tokens": True}}, "split_special_tokens"),
        ({"tokenizer_config": {"sp_model_kwargs": {"enable_sampling": True}}}, "sp_model_kwargs"),
        ({"tokenizer_config": {"add_bos_token": "yes"}}, "add_bos_token is 'yes'"),
        ({"tokenizer_config": {"additional_special_tokens": ["<|x|>"]}}, r"<\|x\|>' has no id"),
        ({"added_tokens": {"<|x|>": "340"}}, "no whole number"),
        ({"added_tokens": {"<|x|>": 5}}, "two tokens have one id"),
        ({"added_tokens": {"<s>": 340}}, "'<s>' is 340, and 1"),
        ({"tokenizer_config": {"added_tokens_decoder": {"340": {"content": "x", "single_word": True}}}}, "single_word"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    layouts: Callable[[str, str], Path], tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    """A setting beside tokenizer.model that would change ids in a way of its own is named."""
    (tmp_path / "tokenizer.model").write_bytes((layouts("pieces", "alone") / "tokenizer.model").read_bytes())
    with pytest.raises(UserError, match=message):
        read(write_settings(tmp_path, files))


def test_code_of_a_folder_is_never_run(tmp_path: Path) -> None:
    """A tokenizer that is a program of its own is refused."""
    byte_level(False).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tok.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = {"tokenizer_class": "Tok", "auto_map": {"AutoTokenizer": [None, "tok.Tok"]}}
    with pytest.raises(UserError, match="transformers reads"):
        read(write_settings(tmp_path, {"tokenizer_config": config}))
    assert not (tmp_path / "ran").exists()


def test_versions_that_differ_are_told(layouts: Callable[[str, str], Path], tmp_path: Path) -> None:
    """Where version 4 of transformers begins or splits otherwise, a line says so; where they agree, none does."""
    told = {name: about_versions(layouts("fast", name), read(layouts("fast", name))) for name in FAST}
    assert "obeyed by transformers 4" in str(told["flag-against-file"])
    assert "tokenizer_class" in str(told["llama-class"])
    assert told["alone"] is told["chat-end"] is None
    assert "5 begins with nothing" in str(about_versions(layouts("pieces", "named"), read(layouts("pieces", "named"))))
    (tmp_path / "tokenizer.model").write_bytes((layouts("pieces", "alone") / "tokenizer.model").read_bytes())
    folder = write_settings(tmp_path, {"tokenizer_config": {**LLAMA, "add_bos_token": True}})
    assert about_versions(folder, read(folder)) is None
    write_pieces(folder, normalization_rule_name="nmt_nfkc")
    assert "normalises" in str(about_versions(folder, read(folder)))


@pytest.mark.parametrize(("kind", "name"), [*(("fast", name) for name in FAST), *(("pieces", name) for name in PIECES)])
def test_a_text_that_comes_token_by_token(layouts: Callable[[str, str], Path], kind: str, name: str) -> None:
    """Whatever a model writes, the same comes out as if all ids were decoded with each new one, not the last alone."""
    tokenizer = read(layouts(kind, name))

    def whole_each_time(ids: list[int]) -> str:
        text = ""
        for end in range(1, len(ids) + 1):
            text += tokenizer.decode(ids[:end]).rstrip(UNFINISHED)[len(text) :]
        return text + tokenizer.decode(ids)[len(text) :]

    @settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        texts=st.lists(TEXTS, min_size=20, max_size=40),
        drawn=st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=60),
        seed=st.integers(0, 9),
    )
    def same(texts: list[str], drawn: list[int], seed: int) -> None:
        ids = tokenizer.encode("".join(texts))
        # Ids as no encoder gives them: bytes of no character, special tokens, pieces in any order.
        place = len(ids) * seed // 10
        ids = ids[:place] + drawn + ids[place:]
        stream = TextStream(tokenizer)
        assert "".join([*(stream.push(token) for token in ids), stream.finish()]) == whole_each_time(ids)

    same()
