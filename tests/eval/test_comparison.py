"""One system is called better only where a test says so, and the tests are those of the books."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference

from mm_adapter.core.errors import UserError
from mm_adapter.eval.comparison import agreement, compare, compare_cells, compare_systems, mcnemar, missed_by_all


def outcomes(right: list[bool]) -> dict[str, bool]:
    return {str(pid): value for pid, value in enumerate(right)}


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_against_statsmodels(only_first: int, only_second: int) -> None:
    table = [[5, only_first], [only_second, 7]]
    expected = reference(table, exact=True).pvalue if only_first + only_second else 1.0
    assert mcnemar(only_first, only_second) == pytest.approx(min(1.0, expected), rel=1e-9)


def test_comparison_counts_and_signs() -> None:
    first = outcomes([True] * 60 + [False] * 40)
    second = outcomes([True] * 55 + [False] * 5 + [True] * 25 + [False] * 15)
    found = compare(first, second, seed=1)
    assert (found.questions, found.only_first, found.only_second) == (100, 5, 25)
    assert found.difference == pytest.approx(20.0)
    assert found.interval is not None
    assert found.difference in found.interval
    assert found.interval.low > 0
    assert found.verdict == "better"
    assert compare(second, first, seed=1).verdict == "worse"
    assert compare(first, first).verdict == "not decided"
    assert compare(first, first).p_value == 1.0


@settings(max_examples=20)  # each draws ten thousand times for five intervals
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=60))
def test_holm(rows: list[tuple[bool, bool, int]]) -> None:
    """Corrected values are Holm's: the sorted p-values times how many are left, never falling, at most 1."""
    first, second = outcomes([row[0] for row in rows]), outcomes([row[1] for row in rows])
    cells = {str(cell): [str(i) for i, row in enumerate(rows) if row[2] == cell] for cell in range(5)}
    found = list(compare_cells(first, second, cells).values())
    raw = sorted(one.p_value for one in found)
    expected = np.minimum(1, np.maximum.accumulate([p * (len(raw) - place) for place, p in enumerate(raw)]))
    assert sorted(one.adjusted for one in found) == pytest.approx(expected.tolist())
    assert all(one.adjusted >= one.p_value for one in found)


def test_several_systems_are_corrected_together() -> None:
    """Three systems are three pairs: the correction counts every comparison that is shown."""
    systems = {
        "a": outcomes([True] * 30 + [False] * 30),
        "b": outcomes([True] * 37 + [False] * 23),
        "c": outcomes([False] * 60),
    }
    found = compare_systems(systems, {"all": list(systems["a"]), "none": []})
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(list(row) == ["all"] for row in found.values())
    assert found["a", "b"]["all"].adjusted == pytest.approx(found["a", "b"]["all"].p_value)
    assert found["b", "c"]["all"].adjusted == pytest.approx(3 * found["b", "c"]["all"].p_value)


def test_different_questions_are_refused() -> None:
    with pytest.raises(UserError, match=r"1 only by the first \('2'\) and 1 only by the second \('3'\)"):
        compare({"1": True, "2": True}, {"1": True, "3": False})
    with pytest.raises(UserError, match="no question"):
        compare({}, {})


def test_agreement() -> None:
    """The same wrong choice counts as alike; two unreadable answers do not."""
    answers = {"a": 0, "b": 1, "c": 2, "d": 0}
    found = agreement({"a": 0, "b": 0, "c": -1, "d": 0}, {"a": 0, "b": 0, "c": -1, "d": 1}, answers)
    assert found.same == 50.0
    assert found.same_wrong == 50.0
    assert found.kappa == pytest.approx(0.5)
    assert agreement(answers, answers, answers).kappa is None
    assert missed_by_all([{"a": True, "b": False}, {"a": False, "b": False}]) == ["b"]
