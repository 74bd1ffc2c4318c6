"""Every question is in the cells where a reader would look for it."""

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.cells import DIMENSIONS, cell_rows, cells, official_cells


def test_classes_of_the_official_table(questions: list[Question]) -> None:
    found = official_cells(questions)
    assert found["TXT"] == ["b", "d"]
    assert found["IMG"] == ["a", "d"]
    assert found["NO"] == ["c"]
    assert found["G1-6"] == ["a"]
    assert found["Avg"] == ["a", "b", "c", "d"]


def test_crossing_counts_a_text_with_a_picture_in_both(questions: list[Question]) -> None:
    found = cells(questions, "subject*context")
    assert found == {
        "NAT x TXT": ["d"],
        "NAT x IMG": ["a", "d"],
        "SOC x TXT": ["b"],
        "LAN x NO": ["c"],
    }
    assert list(cells(questions, "context")) == ["TXT", "IMG", "NO"]


@pytest.mark.parametrize("by", sorted(set(DIMENSIONS) - {"context", "grade-band"}))
def test_dimensions_share_the_questions_out(questions: list[Question], by: str) -> None:
    found = cells(questions, by)
    assert sorted(pid for pids in found.values() for pid in pids) == ["a", "b", "c", "d"]


def test_finer_classes(questions: list[Question]) -> None:
    assert cells(questions, "grade") == {"(none)": ["d"], "grade 01": ["a"], "grade 07": ["b"], "grade 12": ["c"]}
    assert cells(questions, "options") == {"2 options": ["a", "c", "d"], "3 options": ["b"]}
    assert cells(questions, "context-length") == {"no words": ["a", "c"], "1-25 words": ["b", "d"]}


def test_unknown_dimension_is_named(questions: list[Question]) -> None:
    with pytest.raises(UserError, match="'topics' is not known, did you mean 'topic'"):
        cells(questions, "subject*topics")


def test_rows_have_counts_and_intervals(questions: list[Question]) -> None:
    right = {"a": True, "b": False, "c": True, "d": True}
    rows = {row.name: row for row in cell_rows(right, official_cells(questions))}
    assert (rows["IMG"].correct, rows["IMG"].total, rows["IMG"].accuracy) == (2, 2, 100.0)
    assert "NO" in rows
    assert rows["Avg"].accuracy == 75.0
    assert rows["Avg"].interval is not None
    assert rows["Avg"].interval.low < 75 < rows["Avg"].interval.high
    by_skill = {
        row.name: row for row in cell_rows(right, official_cells(questions), {"a": "s", "b": "t", "c": "t", "d": "s"})
    }
    assert by_skill["IMG"].interval is None
    assert by_skill["Avg"].interval is not None
