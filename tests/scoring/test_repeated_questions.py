"""One question about many pictures: the lower layers are passed once, and every score is what it is alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring import encoded_sets
from mm_adapter.scoring.encoded_sets import HiddenStateCache, QuestionSet, language_losses, score_questions


def asked(number: int, text: int, answer: int, picture: Path | None) -> EncodedQuestion:
    """Text ``text`` with two options of two tokens each, so that the right one shows in no length."""
    question = Question(str(number), "?", ("a", "b"), answer, image=picture)
    return EncodedQuestion(question, (5 + text, 9, 20 + text), ((30, 31), (40, 41)), (2,))


def examples() -> QuestionSet:
    """Three texts, asked twelve times about four pictures and without one."""
    pictures: list[Path | None] = [Path("a"), Path("b"), Path("c"), None]
    generator = torch.Generator().manual_seed(0)
    features = {path: torch.randn(6, generator=generator) for path in pictures if path is not None}
    return QuestionSet([asked(n, n % 3, n // 3 % 2, pictures[n % 4]) for n in range(12)], features)


def model_of(kind: str, folder: Path) -> MultimodalLlama:
    base = load_llama(str(folder))
    if kind == "base":
        return MultimodalLlama(base)
    if kind == "lora":
        return MultimodalLlama(base, finetuned=prepare_finetuning(base.model, FinetuneConfig("lora")))
    adapter = Adapter(AdapterConfig(2, 3, image_size=6, bottleneck=4), base.model.config)
    torch.nn.init.constant_(adapter.gates, 0.8)  # type: ignore[arg-type]
    return MultimodalLlama(base, adapter)


@pytest.mark.parametrize("kind", ["base", "lora", "adapter"])
def test_scores_are_those_of_each_question_alone(kind: str, tiny_folder: Path) -> None:
    """Whatever is trained, and with tails, which only the right answer has."""
    model, whole = model_of(kind, tiny_folder), examples()
    scores, losses = score_questions(model, whole, 40), language_losses(model, whole, 40)
    for number, question in enumerate(whole.questions):
        alone = QuestionSet([question], whole.features)
        assert scores[number].scores == pytest.approx(score_questions(model, alone)[0].scores, abs=1e-5)
        assert losses[number] == pytest.approx(language_losses(model, alone)[0], abs=1e-5)
    if kind == "adapter":
        assert scores[0].scores != pytest.approx(scores[3].scores, abs=1e-4)  # the same text, another picture


def test_the_lower_layers_see_each_text_once(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three texts of twelve questions pass them; where no text is asked twice, nothing is kept."""
    model, passed = model_of("adapter", tiny_folder), list[str]()
    computed = encoded_sets.lower_states

    def counted(llama: Any, batch: Any, first: int) -> Tensor:
        passed.extend(batch.pids)
        return computed(llama, batch, first)

    monkeypatch.setattr(encoded_sets, "lower_states", counted)
    whole = examples()
    score_questions(model, whole, token_budget=1)
    assert len(passed) == 3
    passed.clear()
    score_questions(model, QuestionSet(whole.questions[:3], whole.features), token_budget=1)
    assert passed == []


def test_the_same_words_with_another_right_answer_are_kept_apart(tiny_folder: Path) -> None:
    """The tail sees the right option alone, which the tokens do not tell."""
    model = model_of("adapter", tiny_folder)
    first, second = (QuestionSet([asked(number, 0, number, None)]) for number in (0, 1))
    cache = HiddenStateCache(model)
    states = [cache.states(part.batch([0], with_tail=True)[0]) for part in (first, second)]
    assert len(cache.rows) == 2
    fresh = [HiddenStateCache(model).states(part.batch([0], with_tail=True)[0]) for part in (first, second)]
    for kept, alone in zip(states, fresh, strict=True):
        assert kept is not None
        assert alone is not None
        assert torch.equal(kept, alone)
