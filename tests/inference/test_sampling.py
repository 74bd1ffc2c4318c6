"""Sampling: what may be drawn, how repetition is punished, and what is refused."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.inference.generation import Sampling

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12, unique=True)


def drawn(sampling: Sampling, logits: list[float], draws: int = 200) -> set[int]:
    rows = torch.tensor([logits] * draws)
    return set(sampling.choose(rows, [[]] * draws, torch.Generator().manual_seed(0)).tolist())


@settings(deadline=None, max_examples=30)
@given(logits=LOGITS, k=st.integers(1, 12))
def test_only_the_k_most_likely_are_drawn(logits: list[float], k: int) -> None:
    """Nothing outside the k largest logits ever comes."""
    best = sorted(range(len(logits)), key=lambda index: -logits[index])[:k]
    assert drawn(Sampling(temperature=1.0, top_k=k), logits) <= set(best)


@settings(deadline=None, max_examples=30)
@given(logits=LOGITS, p=st.floats(0.05, 0.99))
def test_only_the_nucleus_is_drawn(logits: list[float], p: float) -> None:
    """The fewest tokens that reach the sum p, found by walking down the sorted probabilities."""
    probabilities = torch.tensor(logits).softmax(-1).tolist()
    nucleus, total = set(), 0.0
    for index in sorted(range(len(logits)), key=lambda index: -probabilities[index]):
        if total >= p + 1e-6:
            break
        nucleus.add(index)
        total += probabilities[index]
    assert drawn(Sampling(temperature=1.0, top_p=p), logits) <= nucleus


def test_every_allowed_token_is_drawn() -> None:
    """Narrowing keeps what it should: with three equal tokens of four allowed, all three come."""
    logits = [1.0, 1.0, 1.0, -9.0]
    assert drawn(Sampling(temperature=1.0, top_k=3), logits) == {0, 1, 2}
    assert drawn(Sampling(temperature=1.0, top_p=0.99), logits) == {0, 1, 2}
    assert drawn(Sampling(temperature=1.0), [0.0, 0.0]) == {0, 1}


def test_greedy_takes_the_most_likely() -> None:
    """Without temperature nothing is random."""
    assert drawn(Sampling(), [0.1, 0.3, 0.2]) == {1}


def test_repetition_is_punished_whatever_the_sign() -> None:
    """Seen tokens lose: positive logits are divided, negative ones multiplied; other rows and tokens stay."""
    logits = torch.tensor([[2.0, 1.9, -1.0], [2.0, 1.9, -1.0]])
    sampling = Sampling(repetition_penalty=1.5)
    assert sampling.choose(logits, [[0, 0], []]).tolist() == [1, 0]
    assert torch.equal(logits[0], logits[1])
    assert Sampling(repetition_penalty=2.0).choose(torch.tensor([[-1.0, -1.5]]), [[0]]).tolist() == [1]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": 1e-40},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 1e38},
    ],
)
def test_values_that_make_no_sense(values: dict[str, Any]) -> None:
    """Each is refused by name."""
    with pytest.raises(UserError, match=next(iter(values))):
        Sampling(**values)
