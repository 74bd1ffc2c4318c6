"""Small models and data that many tests share."""

import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from mm_adapter.llama import Llama, LlamaConfig

# Every run of the suite tries the same examples, so that a change alone can break it, and a busy machine may be slow.
settings.register_profile("repeatable", max_examples=60, derandomize=True, deadline=None)
# For hunting: pytest -m hypothesis --hypothesis-profile search; more examples where a test does not say how many.
settings.register_profile("search", derandomize=False, max_examples=500, deadline=None)
settings.load_profile("repeatable")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count lines by the first case of each test alone, and not by those that draw inputs or take minutes.

    Tracing takes half as long again, and further cases of a test run the same lines.
    """
    traced = set()
    for item in items:
        case = item.nodeid.partition("[")[0]
        drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if drawn or case in traced or item.get_closest_marker("slow"):
            item.add_marker("no_cover")
        traced.add(case)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let Ctrl-C be heard: a test run in the background has it ignored, and the runs under test would heed that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real questions and reference outputs beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: real questions and reference outputs are not part of the project")
    return SHARED


@pytest.fixture
def tiny_config() -> LlamaConfig:
    """A grouped-query model of four layers."""
    return LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        num_layers=4,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=80,
        context_length=256,
        tied_embeddings=True,
    )


@pytest.fixture
def tiny_llama(tiny_config: LlamaConfig) -> Llama:
    """A random frozen model of that shape."""
    torch.manual_seed(0)
    model = Llama(tiny_config)
    torch.nn.init.normal_(model.embedding.weight, std=0.5)
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of a tiny random LLaMA with a byte-level tokenizer: everything that the commands need."""
    from tiny import write_llama

    return write_llama(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty generated questions in the official layout; not to be changed."""
    from mm_adapter.data.demo import write_demo

    folder = tmp_path_factory.mktemp("demo") / "data"
    write_demo(folder, size=60)
    return folder
