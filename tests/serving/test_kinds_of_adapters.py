"""Adapters of every kind in one engine: those that share a pass, and those that cannot."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.templates import Prompting
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.engine import Engine
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.prompts import Writing, question_job, text_prompt, writing_jobs

SAVED = Path(__file__).resolve().parent.parent / "saved"
KINDS: dict[str, tuple[dict[str, Any], Prompting]] = {
    "gated": ({}, Prompting()),
    "summed": ({}, Prompting("QCM-A", "letter", ranking="sum")),
    "joined": ({"attention": "random-init"}, Prompting()),
    "tuned": ({"biases": True, "norms": True, "output_scales": True}, Prompting()),
    "explains": ({}, Prompting("QCM-A", "letter", "solution", explanation_place="before")),
}


@pytest.fixture(scope="module")
def kinds() -> dict[str, MultimodalLlama]:
    """A base, and an adapter of each kind whose every tensor matters."""
    base = load_llama(str(SAVED / "llama"))
    models = {"base": MultimodalLlama(base)}
    for seed, (name, (changes, prompting)) in enumerate(KINDS.items()):
        adapter = Adapter(AdapterConfig(2, 3, **changes), base.model.config, seed=seed).requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        if adapter.gates is not None:
            adapter.gates.copy_(2 * torch.randn(adapter.gates.shape, generator=generator))
        if adapter.tuning is not None:
            adapter.tuning.start_from(base.model)
            for tensor in adapter.tuning.parameters():
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
        models[name] = MultimodalLlama(base, adapter, prompting=prompting)
    return models


def test_each_answers_as_it_does_alone(kinds: dict[str, MultimodalLlama]) -> None:
    """Questions and texts of all kinds, all there at once; the explanation that comes first is the adapter's own."""
    limits = Limits()
    choices = ["one", "two", "twenty-one"]
    asked = {name: question_job(name, model, limits, "Which number?", choices) for name, model in kinds.items()}
    prompts = {name: text_prompt(model, limits, "Once upon a time") for name, model in kinds.items()}
    writing = Writing(20)
    texts = {name: writing_jobs(name, kinds[name], limits, ids, writing)[0] for name, ids in prompts.items()}
    engine = Engine(kinds, limits)
    assert len(engine._writers) == 2, "the tuned one alone computes with other weights"
    engine.start()
    engine.submit([*asked.values(), *texts.values()])
    engine.close()
    # Base, gated, summed and joined in a pass, the tuned and the explaining one in passes of their own.
    assert engine.passes == 1
    told = {name: model.answer("Which number?", choices=choices) for name, model in kinds.items()}
    for name, model in kinds.items():
        answer = asked[name].future.result(0).answer
        assert answer.choice == told[name].choice
        assert answer.probabilities == pytest.approx(told[name].probabilities, abs=1e-5)
        assert answer.explanation == told[name].explanation
        assert texts[name].future.result(0).text == model.generate([prompts[name]], max_new_tokens=20)[0]
    assert told["explains"].explanation
    assert len({answer.probabilities for answer in told.values()}) == len(kinds)
    assert len({job.future.result(0).text for job in texts.values()}) > 3


def test_an_error_within_the_engine_is_told(kinds: dict[str, MultimodalLlama], monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts whose step fails end by its error, and the next ones are written."""
    limits = Limits()
    model = kinds["base"]
    jobs = [writing_jobs("base", model, limits, text_prompt(model, limits, "Once"), Writing(9))[0] for _ in range(3)]
    with Engine(kinds, limits) as engine:
        broken = [True]
        logits = model.llama.logits

        def once(hidden_states: torch.Tensor) -> torch.Tensor:
            if broken and len(engine._writers[id(model.llama)].active) == 2:
                broken.clear()
                raise RuntimeError("out of memory")
            return logits(hidden_states)

        monkeypatch.setattr(model.llama, "logits", once)
        for future in engine.submit(jobs[:2]):
            with pytest.raises(RuntimeError, match="out of memory"):
                future.result(30)
        assert engine.submit(jobs[2:])[0].result(30).text == model.generate([jobs[2].prompt], max_new_tokens=9)[0]
        assert engine.failed == 2
        assert engine.alive
