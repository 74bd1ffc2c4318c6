"""Intervals say what they should: compared with other implementations, and with what drawing whole skills does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from mm_adapter.eval.intervals import bootstrapped, clustered, wilson


@given(st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_against_statsmodels(counts: tuple[int, int]) -> None:
    correct, total = counts
    found = wilson(correct, total)
    low, high = proportion_confint(correct, total, method="wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high), abs=1e-9)
    assert 100 * correct / total in found or pytest.approx(100 * correct / total) in (found.low, found.high)


def test_nothing_to_say() -> None:
    """No question, one question, one skill: no interval, rather than one of width zero."""
    assert wilson(0, 0) is None
    assert bootstrapped([1.0]) is None
    assert clustered([1, 0, 1], ["s", "s", "s"]) is None


def test_bootstrap_is_seeded_and_near_the_normal() -> None:
    values = [1.0] * 300 + [0.0] * 700 + [-1.0] * 100
    found = bootstrapped(values, seed=3)
    assert found == bootstrapped(values, seed=3)
    assert found != bootstrapped(values, seed=4)
    error = 100 * np.std(values) / np.sqrt(len(values))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(
        (100 * np.mean(values) - 1.96 * error, 100 * np.mean(values) + 1.96 * error), abs=0.4
    )


def test_whole_skills_say_less_than_as_many_questions() -> None:
    """Twenty questions of a skill that are right or wrong together are one observation, not twenty."""
    right = [float(skill % 3 > 0) for skill in range(30) for _ in range(20)]
    skills = [str(skill) for skill in range(30) for _ in range(20)]
    by_skill, by_question = clustered(right, skills), bootstrapped(right)
    assert by_skill is not None
    assert by_question is not None
    ratio = (by_skill.high - by_skill.low) / (by_question.high - by_question.low)
    assert ratio == pytest.approx(np.sqrt(20), rel=0.15)
    alone = clustered(right, [str(i) for i in range(600)])
    assert alone is not None
    assert alone.high - alone.low == pytest.approx(by_question.high - by_question.low, rel=0.1)


def test_values_all_alike_are_not_certain() -> None:
    """Three right answers out of three are no proof of a hundred percent, nor five without a difference of none."""
    by_skill = clustered([1, 1, 1], ["a", "a", "b"])
    assert by_skill is not None
    assert by_skill.low < 50
    assert by_skill.high == 100
    apart = bootstrapped([0.0] * 5, signed=True)
    assert apart is not None
    assert apart.low == -apart.high < -40
    many = bootstrapped([0.0] * 4241, signed=True)
    assert many is not None
    assert many.high < 0.1


def test_long_names_of_clusters_take_no_memory() -> None:
    """A skill of a megabyte is a name like another."""
    assert clustered([1.0, 0.0] * 500, ["s" * 1_000_000, "t"] * 500) is not None
