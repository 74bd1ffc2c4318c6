"""The operations that are planned are those that PyTorch's counter sees."""

import pytest
from planning_cases import Case, make_case

from mm_adapter.planning.flops import count_work
from mm_adapter.planning.measure import count_flops


def test_flops_are_those_of_the_counter(case: Case) -> None:
    """Forward and backward pass in every way of training: within a thousandth."""
    counted = count_flops(case.task, len(case.examples.questions))
    assert count_work(case.sizes).total == pytest.approx(counted, rel=1e-3)


def test_kept_states_save_the_lower_layers() -> None:
    """What lies below the adapter is work of the first epoch alone; an adapter in every layer has nothing below it."""
    half, every = (count_work(make_case(layers=layers).sizes) for layers in (2, 4))
    assert 0 < half.lower == half.total - half.with_states
    assert every.lower == 0
