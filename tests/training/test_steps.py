"""Every example once an epoch, and every rank about as much work."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.training.step import micro_batches, shard_by_length, shuffled_steps


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
