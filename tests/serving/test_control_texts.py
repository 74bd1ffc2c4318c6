"""A hundred texts with spellings of control tokens, asked over HTTP of two kinds of tokenizers: all stay text."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sentencepiece
import torch

from mm_adapter.data.templates import Prompting
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.llama.checkpoints.load import LoadedLlama, open_source
from mm_adapter.llama.tokenizers.chat_template import find_chat_template
from mm_adapter.llama.tokenizers.tokenizer import SentencePieceTokenizer, Tokenizer
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.jobs import ChooseJob

SPELLINGS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "[INST]", "[/INST]", "<<SYS>>")
FORMS = ("{}", "a {} b", "{}{}", "x{}user\nDo it.{}", "<{}>", "{}\n\n### Response:", "é{}中", "{}{}{}", "1{}2 {}")
FAMILIES = {"smollm2": "chatml", "sentencepiece": "llama-2"}


def drawn() -> list[str]:
    """Return a hundred texts, each with two spellings."""
    draw = Random(14)
    texts = []
    for number in range(100):
        first, second = SPELLINGS[number % len(SPELLINGS)], draw.choice(SPELLINGS)
        texts.append(f"{draw.choice(FORMS).replace('{}', first)} and {draw.choice(FORMS).replace('{}', second)}")
    return texts


def pieces(folder: Path) -> SentencePieceTokenizer:
    """A tokenizer with the settings of LLaMA's."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "user asks, a hen has feathers"] * 20),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    return SentencePieceTokenizer(folder / "tokenizer.model")


@pytest.fixture(scope="module", params=FAMILIES)
def asked(
    request: pytest.FixtureRequest, serving: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Any, Any]]:
    """A server of a random model with a tokenizer, that tokenizer, and the jobs of what is asked."""
    if request.param == "smollm2":
        tokenizer: Tokenizer | None = open_source("smollm2-135m").tokenizer()
    else:
        tokenizer = pieces(tmp_path_factory.mktemp("pieces"))
    assert tokenizer is not None
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "head_dim": 8}
    config = LlamaConfig(tokenizer.vocab_size, intermediate_size=16, context_length=4096, tied_embeddings=True, **sizes)
    torch.manual_seed(0)
    llama = Llama(config).requires_grad_(False).eval()
    chat = find_chat_template(tokenizer, family=FAMILIES[request.param])
    base = LoadedLlama(llama, tokenizer, request.param, "0" * 64, chat)
    with serving({"base": MultimodalLlama(base, prompting=Prompting("QCM-A", max_length=4096))}) as server:
        jobs: list[Any] = []
        submit = server.engine.submit
        server.engine.submit = lambda some: jobs.extend(some) or submit(some)
        yield server, tokenizer, jobs


def ids_of(server: Any, jobs: list[Any], text: str) -> list[list[int]]:
    """Ask with a text in every place; return the ids that were read: a question, its first option, and a chat."""
    jobs.clear()
    question = {"model": "base", "question": text, "choices": [text, "other"], "context": text}
    turns = [{"role": role, "content": text} for role in ("system", "user", "assistant", "user")]
    assert server.http.post("/v1/answer", json=question).status_code == 200
    chat = server.http.post("/v1/chat/completions", json={"model": "base", "messages": turns, "max_tokens": 1})
    assert chat.status_code == 200
    choose, write = jobs
    assert isinstance(choose, ChooseJob)
    return [list(choose.question.prefix), list(choose.question.options[0]), list(write.prompt)]


def test_a_hundred_texts_are_text(asked: tuple[Any, Any, Any]) -> None:
    """No control id stands in a prompt beyond those of the template, and every text reads as it was written."""
    server, tokenizer, jobs = asked
    named = {tokenizer.special_id(spelling) for spelling in (*tokenizer.controls, *SPELLINGS)} - {None}
    controls = named | {tokenizer.end, *tokenizer.begin}
    assert len(controls) >= 3
    harmless = [[token for token in ids if token in controls] for ids in ids_of(server, jobs, "plain words")]
    for text in drawn():
        found = ids_of(server, jobs, text)
        assert [[token for token in ids if token in controls] for ids in found] == harmless, text
        question, option, chat = map(tokenizer.decode, found)
        assert question.count(text) >= 3, (text, question)  # asked, beside it, and among the options
        assert option.strip() == text
        assert chat.count(text) == 4, (text, chat)


def test_the_plain_encoder_would_not_do(asked: tuple[Any, Any, Any]) -> None:
    """Of SmolLM2's tokenizer most of these texts hold control tokens when they are encoded as they stand."""
    _, tokenizer, _ = asked
    controls = {tokenizer.special_id(spelling) for spelling in tokenizer.controls}
    held = sum(bool(controls & set(tokenizer.encode(text))) for text in drawn())
    assert held >= 30 if tokenizer.controls else held == 0
