"""The server of PEFT's model that ours is measured against says what our models say, over HTTP, adapter by adapter."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

pytest.importorskip("peft", reason="PEFT is an extra: pip install 'mm-adapter[compare]'")

from peft_server import CONVERTED, Rival, load_rival, make_app
from served import write_adapters
from tiny import write_llama

from mm_adapter.adapter.formats.peft import write_peft
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.loading import load_models

QUESTION, CHOICES = "Which colour has the sky?", ["blue", "a dark red", "green", "none of these colours"]
NAMES = ("letters", "talks", "base")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything is."""
    return tmp_path_factory.mktemp("rival")


@pytest.fixture(scope="module")
def asked(folder: Path) -> dict[str, MultimodalLlama]:
    """A tiny base, two adapters that PEFT can hold, and what PEFT reads beside each."""
    base = load_llama(str(write_llama(folder / "llama")))
    adapters = write_adapters(folder, base, one_gate=NAMES)
    models = load_models(str(folder / "llama"), {name: adapters[name] for name in NAMES[:2]})
    for name in NAMES[:2]:
        adapter = models[name].adapter
        assert adapter is not None
        write_peft(adapters[name] / CONVERTED, adapter, base.model.config, str(folder / "llama"))
    return models


@pytest.fixture(scope="module")
def client(asked: dict[str, MultimodalLlama], folder: Path) -> TestClient:
    """A client of the routes."""
    rival = load_rival(str(folder / "llama"), {name: folder / name / CONVERTED for name in NAMES[:2]})
    return TestClient(make_app(Rival(rival, asked)))


def test_choices_and_texts_are_ours(asked: dict[str, MultimodalLlama], client: TestClient) -> None:
    """Whoever was asked before: the adapter in use is that of the request, and the base has none."""
    told = set()
    for name in (*NAMES, *NAMES[::-1]):
        answer = asked[name].answer(QUESTION, None, CHOICES, "It is noon.")
        body = {"model": name, "question": QUESTION, "choices": CHOICES, "context": "It is noon."}
        reply = client.post("/v1/answer", json=body).json()
        assert reply["index"] == answer.choice
        assert reply["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)
        [text] = asked[name].generate([QUESTION], max_new_tokens=12)
        reply = client.post("/v1/completions", json={"model": name, "prompt": QUESTION, "max_tokens": 12}).json()
        assert reply["choices"][0]["text"] == text
        told.add((text, answer.probabilities))
    assert len({text for text, _ in told}) == len(NAMES)


def test_no_adapter_at_all(asked: dict[str, MultimodalLlama], folder: Path) -> None:
    """Then the model is transformers' own."""
    rival = Rival(load_rival(str(folder / "llama"), {}), asked)
    answer = asked["base"].answer(QUESTION, None, CHOICES)
    assert rival.choose("base", QUESTION, CHOICES, "")[1] == pytest.approx(answer.probabilities, abs=1e-5)
