"""Every example once an epoch, and every rank about as much work."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.scoring.encoded_sets import QuestionSet
from mm_adapter.training.step import micro_batches, shard_by_length, shuffled_steps
from mm_adapter.training.task import balanced_weights


@pytest.mark.parametrize("count", [1, 7, 32])
def test_steps_are_seeded_and_complete(count: int) -> None:
    """An epoch visits every question once, in an order that the seed alone decides."""

    def epoch(seed: int) -> list[list[int]]:
        return list(shuffled_steps(count, 8, torch.Generator().manual_seed(seed)))

    assert epoch(1) == epoch(1)
    for seed in (1, 2):
        steps = epoch(seed)
        assert sorted(index for step in steps for index in step) == list(range(count))
        assert [len(step) for step in steps] == [8] * (count // 8) + ([count % 8] if count % 8 else [])
    if count > 7:
        assert epoch(1) != epoch(2)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 9))
def test_ranks_share_a_step_evenly(lengths: list[int], ranks: int) -> None:
    """No example twice or left out; no rank has more than another by more than the longest example."""
    indices = list(range(len(lengths)))[::-1]
    shares = shard_by_length(indices, lengths, ranks)
    assert len(shares) == ranks
    assert sorted(index for share in shares for index in share) == sorted(indices)
    tokens = [sum(lengths[index] for index in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths)
    assert shard_by_length(indices, lengths, 1) == [indices]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 2000))
def test_passes_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    """A pass is over the budget only where a single example is."""
    passes = micro_batches(range(len(lengths)), lengths, budget)
    assert sorted(index for batch in passes for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sum(lengths[index] for index in batch) <= budget for batch in passes)


def test_weights_decide_how_often_an_example_is_drawn() -> None:
    """As many draws as examples, in proportion to the weights, by the seed; one of weight 0 never comes."""
    weights = torch.tensor([0.0, 1.0, 3.0] * 1000, dtype=torch.float64)

    def draws(seed: int) -> list[int]:
        steps = list(shuffled_steps(3000, 8, torch.Generator().manual_seed(seed), weights))
        assert [len(step) for step in steps] == [8] * 375
        return [index % 3 for step in steps for index in step]

    assert draws(1) == draws(1) != draws(2)
    counts = torch.tensor(draws(1)).bincount(minlength=3)
    assert counts[0] == 0
    assert counts[2] / counts[1] == pytest.approx(3.0, rel=0.15)


def test_each_answer_to_one_question_weighs_as_much() -> None:
    """Nine times no and one time yes: drawn as often; another question's answers stand for themselves."""
    from mm_adapter.data.encoding import EncodedQuestion
    from mm_adapter.data.question import Question

    def asked(prefix: int, answer: int) -> EncodedQuestion:
        return EncodedQuestion(Question("1", "?", ("yes", "no"), answer), (prefix,), ((5,), (6,)), ())

    examples = QuestionSet([*[asked(1, 1)] * 9, asked(1, 0), asked(2, 0), asked(2, 0)])
    weights = balanced_weights(examples).tolist()
    assert weights == pytest.approx([*[1 / 9] * 9, 1.0, 0.5, 0.5])
