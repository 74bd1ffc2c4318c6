"""Tokenizers in folders: begin and end as the files say, no truncation, damage named."""

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors

from mm_adapter.core.errors import UserError
from mm_adapter.inference.inspection import inspect
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Path) -> Path:
    """A copy of the tiny folder that may be changed."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_text_survives(tiny_folder: Path) -> None:
    """Text of any script comes back as it went in, special tokens left out."""
    tokenizer = load_llama(str(tiny_folder)).tokenizer
    assert tokenizer is not None
    text = "Grüße,\n漢字 and 😀"
    assert tokenizer.decode([0, *tokenizer.encode(text), 1]) == text
    assert (tokenizer.begin, tokenizer.end, tokenizer.vocab_size) == ((), 1, 258)


def test_begin_comes_from_the_post_processor(folder: Path) -> None:
    """Where the file itself adds a begin token, so do we, once, and encode never does."""
    path = folder / "tokenizer.json"
    backend = Tokenizer.from_file(str(path))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    backend.enable_truncation(3)
    backend.enable_padding(length=50)
    backend.save(str(path))
    tokenizer = read_tokenizer(folder, ())
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.end) == ((0,), 1)
    assert len(tokenizer.encode("abcdefgh")) == 8


@pytest.mark.parametrize("named", ["<s>", {"content": "<s>"}])
def test_end_named_in_the_tokenizer_configuration(folder: Path, named: object) -> None:
    """tokenizer_config.json goes before config.json: chat models end their turn with another token."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": named}))
    tokenizer = read_tokenizer(folder, (7,))
    assert tokenizer is not None
    assert tokenizer.end == 0


def test_end_from_model_configuration_or_usual_names(folder: Path) -> None:
    """Without a name there, config.json says it, then the usual spellings, then nothing does."""
    (folder / "tokenizer_config.json").write_text("[]")
    first, second = read_tokenizer(folder, (7, 8)), read_tokenizer(folder, ())
    assert first is not None
    assert second is not None
    assert (first.end, second.end) == (7, 1)
    content = (folder / "tokenizer.json").read_text(encoding="utf-8").replace("</s>", "<stop>")
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="no end-of-sequence token"):
        read_tokenizer(folder, ())


def test_sentence_piece_model(tmp_path: Path) -> None:
    """A tokenizer.model, as LLaMA 1 has it."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat"] * 4),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=280,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    tokenizer = read_tokenizer(tmp_path, ())
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.end, tokenizer.vocab_size) == ((1,), 2, 280)
    assert tokenizer.decode(tokenizer.encode("the cat é")) == "the cat é"
    # Encoded in pieces, a prompt has the ids that it has as a whole: no piece begins with a space of its own.
    for pieces in (("the", " cat", " sat on"), ("the cat:", "\nmat", " the")):
        joined = tokenizer.encode(pieces[0])
        for piece in pieces[1:]:
            joined = joined + tokenizer.encode_continuation(piece)
        assert joined == tokenizer.encode("".join(pieces))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_damaged_file(tmp_path: Path, name: str) -> None:
    """A damaged tokenizer is named."""
    (tmp_path / name).write_bytes(b"{damaged")
    with pytest.raises(UserError, match=name):
        read_tokenizer(tmp_path, ())


def test_no_tokenizer(tmp_path: Path) -> None:
    """A folder without one is no error here."""
    assert read_tokenizer(tmp_path, ()) is None


def test_a_padded_embedding(folder: Path) -> None:
    """Rows of an embedding beyond the vocabulary are padding, up to a point: then it is another model's tokenizer."""
    for rows, fits in ((264, True), (258 + 1025, False)):
        tensors = load_file(folder / "model.safetensors")
        tensors["model.embed_tokens.weight"] = torch.zeros(rows, 48)
        save_file(tensors, folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": rows}))
        if fits:
            assert inspect(str(folder)).facts["padding"] == 6
            assert load_llama(str(folder)).tokenizer is not None
        else:
            with pytest.raises(UserError, match="258 tokens, the embedding 1283"):
                load_llama(str(folder))


def test_tokenizer_of_another_model(folder: Path) -> None:
    """Ids beyond the embedding would be an index error in the middle of training."""
    path = folder / "tokenizer.json"
    backend = Tokenizer.from_file(str(path))
    backend.add_special_tokens(["<one-more>"])
    backend.save(str(path))
    with pytest.raises(UserError, match="259 tokens, the embedding 258"):
        load_llama(str(folder))
