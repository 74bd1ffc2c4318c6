"""What a table could mean otherwise is refused, not guessed: numbers from 1, pictures by id, lists of answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversations import open_conversations
from mm_adapter.data.question import TableOptions, hold_out
from mm_adapter.data.readers import read_dataset, task_of


def lines(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


def numbered(path: Path, answers: tuple[int, ...]) -> str:
    return lines(
        path, [{"question": "q", "option1": "a", "option2": "b", "option3": "c", "answer": n} for n in answers]
    )


@pytest.mark.parametrize(("answers", "first"), [((1, 2, 3), 0), ((0, 1, 2), 0), ((2, 0), 2)])
def test_answers_count_as_the_columns_do_where_only_that_fits(
    tmp_path: Path, answers: tuple[int, ...], first: int
) -> None:
    assert read_dataset(numbered(tmp_path / "t.jsonl", answers)).questions[0].answer == first


def test_numbers_that_may_count_from_0_or_from_1_are_refused(tmp_path: Path) -> None:
    source = numbered(tmp_path / "t.jsonl", (1, 2, 1))
    with pytest.raises(UserError, match=r"by index and 'a' by letter.*--answers index or --answers letter"):
        read_dataset(source)
    assert read_dataset(source, options=TableOptions(answers="letter")).questions[0].answer == 0


def test_skipping_rows_does_not_hide_that_answers_count_from_1(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["a", "b", "c"], "answer": n} for n in (1, 2, 3)]
    with pytest.raises(UserError, match="count from 1"):
        read_dataset(lines(tmp_path / "t.jsonl", rows), skip_bad=True)


@pytest.mark.parametrize("column", ["image_id", "flickr_url", "text"])
def test_a_column_that_may_be_asked_about_is_not_passed_over(tmp_path: Path, column: str) -> None:
    source = lines(tmp_path / "t.jsonl", [{"question": "q", "answer": "a", column: "x"}] * 2)
    with pytest.raises(UserError, match=f"not known what '{column}' holds"):
        task_of(source)


def conversation(**more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}], **more}


def test_conversations_are_divided_by_their_split_column(tmp_path: Path) -> None:
    rows = [conversation(split=name) for name in ("train", "train", "validation")]
    found = open_conversations(lines(tmp_path / "t.jsonl", rows))
    assert {name: len(items) for name, items in found.splits.items()} == {"train": 2, "val": 1}


def test_conversations_with_two_columns_of_pictures_are_refused(tmp_path: Path) -> None:
    source = lines(tmp_path / "t.jsonl", [conversation(image=None, images=["a.png"])])
    with pytest.raises(UserError, match="'image' and 'images' could both be the image"):
        open_conversations(source)


@given(st.integers(2, 60), st.floats(0.01, 0.9), st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)))
def test_no_row_that_was_trained_on_is_held_out_by_who_knows_of_fewer_bad_ones(
    count: int, share: float, missing: set[int], damaged: set[int]
) -> None:
    """Training decodes the pictures and knows all bad rows; evaluation divides the table before it does."""
    ids = [str(number) for number in range(count)]
    known = {str(number) for number in missing}
    trained, held = hold_out(ids, share, known | {str(number) for number in damaged})
    _, evaluated = hold_out(ids, share, known)
    learned = set(trained) - known - {str(number) for number in damaged}
    assert not learned & set(evaluated) or not held
    assert not set(held) & known


def test_a_prompt_of_the_system_and_unused_columns_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    found = open_conversations(lines(tmp_path / "c.jsonl", [conversation(system="Be kind.")]))
    assert (found.split("all")[0].turns[0].system, "system" in found.summary) == ("Be kind.", False)
    ignored = TableOptions(columns=("ignore=system",))
    assert (
        not open_conversations(lines(tmp_path / "c.jsonl", [conversation(system="x")]), ignored)
        .split("all")[0]
        .turns[0]
        .system
    )
    with pytest.raises(UserError, match="answer=x says nothing beside 'conversations'"):
        open_conversations(lines(tmp_path / "c.jsonl", [conversation(x=1)]), TableOptions(columns=("answer=x",)))
    source = lines(tmp_path / "t.jsonl", [{"question": "q", "rationale": "because", "answer": "yes"}])
    assert open_conversations(source).summary.endswith("passed over: rationale")


def test_a_bad_row_does_not_open_a_split_of_its_own(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["a", "b"], "answer": 0, "split": "train"}] * 3
    source = lines(tmp_path / "t.jsonl", [*rows, {**rows[0], "choices": ["a"], "split": "val"}])
    dataset = read_dataset(source, skip_bad=True)
    assert {name: len(pids) for name, pids in dataset.splits.items()} == {"train": 3, "val": 1}


def test_a_list_of_answers_in_a_cell_is_no_answer_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("question,direct_answers\nq,\"['bus', 'car', 'bus']\"\n")
    found = open_conversations(str(path), TableOptions(columns=("answer=direct_answers",)))
    assert found.splits["all"][0].references == ("bus", "car", "bus")


def test_a_row_that_is_cut_off_is_not_a_question_without_picture(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("question,choices,answer,image\nq,a|b,a\n")
    with pytest.raises(UserError, match="line 2: fewer cells than columns"):
        read_dataset(str(tmp_path / "t.csv"))


def test_not_a_number_is_an_empty_cell(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"question":"q","choices":["a","b"],"answer":0,"hint":NaN,"image":NaN}')
    (found,) = read_dataset(str(tmp_path / "t.jsonl")).questions
    assert (found.context, found.image) == ("", None)
