"""Conversations as instruct models were taught them: the file's own template, known families, and hostile templates."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import LoadedLlama
from mm_adapter.llama.tokenizers.chat_template import FAMILIES, ChatTemplate, find_chat_template, read_chat_template
from mm_adapter.llama.tokenizers.tokenizer import SentencePieceTokenizer

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi, who?"},
    {"role": "assistant", "content": "A hen."},
    {"role": "user", "content": "Why?"},
]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("answer", [True, False])
def test_own_template_equals_transformers(
    smollm2: LoadedLlama, smollm2_reference: tuple[Any, Any], first: int, answer: bool
) -> None:
    """The template inside the file gives the ids that transformers gives, with and without a system message."""
    assert smollm2.chat is not None
    assert smollm2.tokenizer is not None
    messages = TURNS[first:]
    expected = smollm2_reference[1].apply_chat_template(
        messages, add_generation_prompt=answer, tokenize=True, return_dict=False
    )
    assert smollm2.chat.encode(smollm2.tokenizer, TURNS[first:], answer) == expected
    assert smollm2.chat.end_tokens == (smollm2.tokenizer.end,)


PUBLISHED = {
    "llama-2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi, who? [/INST] A hen. </s><s>[INST] Why? [/INST]",
    "mistral": "<s>[INST] Be brief.\n\nHi, who? [/INST] A hen.</s>[INST] Why? [/INST]",
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi, who?<|im_end|>\n"
        "<|im_start|>assistant\nA hen.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama-3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi, who?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA hen.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_written_as_published(family: str) -> None:
    """Every family writes a conversation as its model card says."""
    assert ChatTemplate(family, FAMILIES[family], "<s>", "</s>", (2,)).render(TURNS) == PUBLISHED[family]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """A vocabulary of LLaMA 2's kind, which knows no special token by its spelling."""
    prefix = tmp_path_factory.mktemp("pieces") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the hen has feathers", "why who hi brief [INST]"] * 4),
        model_prefix=str(prefix),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    return SentencePieceTokenizer(prefix.with_suffix(".model"))


def test_begin_and_end_of_every_turn_are_ids(pieces: SentencePieceTokenizer) -> None:
    """SentencePiece would spell out <s> and </s>; each turn begins and ends with the token instead."""
    chat = find_chat_template(pieces, family="llama-2")
    assert chat is not None
    expected = [
        *[1, *pieces.encode("[INST] hi [/INST] the hen "), 2],
        *[1, *pieces.encode("[INST] why [/INST]")],
    ]
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "the hen"},
        {"role": "user", "content": "why"},
    ]
    assert chat.encode(pieces, turns) == expected
    plain = find_chat_template(pieces, template="{{ messages[0].content }}")
    assert plain is not None
    assert plain.encode(pieces, turns) == [1, *pieces.encode("hi")], "a template without begin gets one"


def test_what_tells_the_family(pieces: SentencePieceTokenizer, smollm2: LoadedLlama) -> None:
    """Special tokens tell where no template does; a base model says nothing; unknown names are refused."""
    assert smollm2.tokenizer is not None
    named = find_chat_template(smollm2.tokenizer)
    assert named is not None
    assert named.name == "chatml"
    assert find_chat_template(pieces) is None
    with pytest.raises(UserError, match="did you mean 'llama-2'"):
        find_chat_template(pieces, family="llama2")


def test_templates_in_folders(tmp_path: Path) -> None:
    """A file of its own, the tokenizer's configuration, or a list with a default there."""
    assert read_chat_template(tmp_path) is None
    settings = tmp_path / "tokenizer_config.json"
    for value, expected in (("a", "a"), ([{"name": "default", "template": "b"}], "b"), (None, None), ([], None)):
        settings.write_text(json.dumps({"chat_template": value}))
        assert read_chat_template(tmp_path) == expected
    for value in (3, "a" * 70000):
        settings.write_text(json.dumps({"chat_template": value}))
        with pytest.raises(UserError, match="chat template is not a text"):
            read_chat_template(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("c")
    assert read_chat_template(tmp_path) == "c"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"chat_template\.jinja"):
        read_chat_template(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__['os'].system('true') }}",
        "{{ messages.append(1) }}",
        "{% for x in range(10000000) %}{% endfor %}",
        "{{ raise_exception('roles must alternate') }}",
        "{% if %}",
        "{{ 1 / 0 }}",
    ],
)
def test_templates_that_are_refused(template: str) -> None:
    """A template reaches neither Python nor its arguments; whatever goes wrong in it is one message."""
    with pytest.raises(UserError, match="chat template cannot be used"):
        ChatTemplate("own", template, "", "", ()).render(TURNS)
