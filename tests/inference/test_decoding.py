"""Rows that join and leave between tokens, each with its own adapter: what each writes and scores alone."""

import random
from typing import Any

import pytest
import torch

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.mixed_rows import mix_prefixes
from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.inference.decoding import DecodingBatch, Row
from mm_adapter.inference.generation import Sampling, generate_tokens
from mm_adapter.llama import Llama
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import score_options

KINDS: dict[str, dict[str, Any]] = {
    "base": {},
    "text": {"prompt_length": 7, "image_size": 0},
    "gated": {},
    "no tanh": {"gate_activation": "none", "layers": 2},
    "scaled": {"prompt_scale": True},
    "tiles": {"image_prompts": "tiles", "image_pieces": (3, 2, 1)},
    "joined": {"attention": "random-init"},
}


@pytest.fixture
def lively(tiny_llama: Llama) -> Llama:
    """The tiny model with larger weights, so that it does not repeat its last token."""
    for layer in tiny_llama.layers:
        for weight in layer.parameters():
            weight.mul_(3)
    return tiny_llama


def own_prefixes(llama: Llama, kind: str, seed: int) -> Any:
    """Return the prefixes of an adapter of a kind with a picture of its own, where it sees any."""
    if kind == "base":
        return None
    sizes: dict[str, Any] = {"layers": 3, "prompt_length": 4, "image_size": 6, "bottleneck": 8}
    adapter = Adapter(AdapterConfig(**(sizes | KINDS[kind])), llama.config, seed=seed).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for tensor in (adapter.gates, adapter.image_gates, adapter.scales):
        if tensor is not None:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    features = torch.randn(1, 6, generator=generator) if adapter.config.image_size else None
    return adapter.prefixes(llama, features)


@pytest.mark.parametrize("kinds", [("base", "text", "gated", "no tanh", "scaled", "tiles"), tuple(KINDS), ("base",)])
def test_rows_write_what_each_writes_alone(lively: Llama, kinds: tuple[str, ...]) -> None:
    """Prompts of 1 to 60 tokens join in any order, some amid others; every text is the one of a lone run."""
    draw = random.Random(len(kinds))
    rows = []
    for place in range(20):
        prompt = [draw.randrange(300) for _ in range(draw.choice((1, 2, 9, 60)))]
        prefixes = own_prefixes(lively, kinds[place % len(kinds)], place)
        rows.append(Row(prompt, frozenset({7}), draw.choice((1, 3, 20, 150)), prefixes))
    batch, waiting = DecodingBatch(lively), list(rows)
    most = 0
    while waiting or batch.rows:
        joining = [waiting.pop() for _ in range(min(len(waiting), draw.choice((0, 0, 1, 3))))]
        if joining:
            batch.join(joining)
        most = max(most, len(batch.rows))
        batch.step()
    assert most > 4
    for row in rows:
        [alone] = generate_tokens(lively, [row.prompt], 7, row.prefixes, row.limit)
        assert row.written == alone
        assert row.finished == ("length" if len(alone) == row.limit else "stop")
    assert len({tuple(row.written) for row in rows}) > 10


def test_scores_are_those_of_a_plain_pass(lively: Llama) -> None:
    """Log-probabilities of prompt and text, with the likeliest tokens, are the log-softmax of a pass over all of it."""
    rows = [
        Row([5, 6, 7], frozenset(), 5, own_prefixes(lively, kind, 1), scores=3, score_prompt=True)
        for kind in ("base", "gated", "tiles")
    ]
    rows.append(Row(list(range(40, 90)), frozenset(), 0, scores=2, score_prompt=True))
    rows.append(Row([9] * 11, frozenset(), 4))
    batch = DecodingBatch(lively)
    batch.join(rows)
    while batch.rows:
        batch.step()
    for row in rows[:4]:
        ids = [*row.prompt, *row.written]
        table = lively(torch.tensor([ids]), prefixes=row.prefixes)[0].log_softmax(-1)
        scores = [*row.prompt_scores, *row.written_scores]
        assert [score.token for score in scores] == ids[1:]
        for score, line in zip(scores, table, strict=False):
            assert abs(score.log_probability - float(line[score.token])) < 1e-5
            best = line.topk(row.scores or 0)
            assert [token for token, _ in score.top] == best.indices.tolist()
            assert torch.allclose(torch.tensor([value for _, value in score.top]), best.values, atol=1e-5)
    assert rows[3].written == []
    assert rows[3].finished == "length"
    assert rows[4].written_scores == rows[4].prompt_scores == []


def test_draws_do_not_depend_on_neighbours(lively: Llama) -> None:
    """A seed gives the text that it gives alone, whoever else is written on."""
    sampling = Sampling(temperature=1.0, top_k=40, repetition_penalty=1.2)
    rows = [
        Row([5 + place], frozenset(), 12, None, sampling, torch.Generator().manual_seed(place)) for place in range(4)
    ]
    batch = DecodingBatch(lively)
    batch.join(rows[:2])
    batch.step()
    batch.join(rows[2:])
    batch.drop(rows[0])
    batch.drop(rows[0])
    while batch.rows:
        batch.step()
    for place, row in enumerate(rows[1:], start=1):
        generator = torch.Generator().manual_seed(place)
        assert [row.written] == generate_tokens(lively, [row.prompt], -1, None, 12, sampling, generator)
    assert len(rows[0].written) == 2


def test_a_prompt_without_room_keeps_others_as_they_are(lively: Llama) -> None:
    """Empty or too long, it is refused by name, and those that are there go on."""
    batch, row = DecodingBatch(lively), Row([5], frozenset(), 6)
    batch.join([row])
    for prompt, limit, said in (
        ([], 1, "an empty prompt"),
        ([3] * 250, 7, "250 tokens, and 7 more"),
        ([3] * 257, 0, "257"),
    ):
        with pytest.raises(UserError, match=said):
            batch.join([Row([4], frozenset(), 1), Row(prompt, frozenset(), limit)])
    while batch.rows:
        batch.step()
    assert [row.written] == generate_tokens(lively, [[5]], -1, None, 6)


def test_options_of_several_adapters_are_scored_in_one_pass(lively: Llama) -> None:
    """A packed pass with an adapter a question gives every option what a pass of its own gives."""
    draw = random.Random(3)
    questions, prefixes = [], []
    for place, kind in enumerate([*KINDS, *KINDS]):
        ids = [tuple(draw.randrange(300) for _ in range(draw.choice((1, 4, 30)))) for _ in range(4)]
        question = Question(str(place), "?", ("a", "b", "c"), answer=-1)
        questions.append(EncodedQuestion(question, ids[0], tuple(ids[1:]), ()))
        prefixes.append(own_prefixes(lively, kind, place))
    together = score_options(lively, collate(questions, False), mix_prefixes(prefixes, lively.config.num_layers))
    for question, own, scores in zip(questions, prefixes, together.log_likelihoods.split(3), strict=True):
        alone = score_options(lively, collate([question], False), own).log_likelihoods
        assert torch.allclose(scores, alone, atol=2e-5)
    base = score_options(lively, collate(questions, False)).log_likelihoods
    assert (base - together.log_likelihoods).abs().max() > 0.1
