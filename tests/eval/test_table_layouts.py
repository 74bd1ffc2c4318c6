"""VLMEvalKit's tables, written by pandas as VLMEvalKit writes them, and files in other encodings and arrangements."""

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.layouts import read_predictions
from mm_adapter.eval.system import Reading, read_system

LETTERS = "ABCDE"


@pytest.fixture
def asked(questions: list[Question]) -> list[Question]:
    """The four questions with words of their own; the first and the last have pictures."""
    return [replace(question, pid=f"p{place}") for place, question in enumerate(questions)]


def rows(questions: Sequence[Question], index: Sequence[Any], answers: Sequence[str | None]) -> list[dict[str, Any]]:
    return [
        {
            "index": place,
            "question": question.question,
            "hint": question.context or None,
            **dict.fromkeys("ABC"),
            **dict(zip(LETTERS, question.options, strict=False)),
            "answer": LETTERS[question.answer],
            "prediction": answer,
        }
        for question, place, answer in zip(questions, index, answers, strict=True)
    ]


def write_table(path: Path, table: list[dict[str, Any]]) -> Path:
    frame = pd.DataFrame(table)
    if path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    elif path.suffix == ".json":
        frame.to_json(path, orient="records", force_ascii=False, indent=4)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("ending", [".tsv", ".xlsx", ".csv", ".json"])
@pytest.mark.parametrize("counted", ["pictures", "all", "pid"])
def test_rows_by_any_index(tmp_path: Path, asked: list[Question], ending: str, counted: str) -> None:
    """Whether the index counts pictures (as VLMEvalKit's ScienceQA does), all questions, or is a pid."""
    chosen = [asked[0], asked[3]] if counted == "pictures" else asked
    index = [question.pid for question in chosen] if counted == "pid" else list(range(len(chosen)))
    texts = ["The answer is B.", 'Say "A",\nsurely', None, "(B) y"]
    table = rows(chosen, index, texts[:1] + texts[3:] if counted == "pictures" else texts)
    path = write_table(tmp_path / f"model_ScienceQA_TEST{ending}", table)
    found = {p.pid: (p.choice, p.rule) for p in read_predictions(path, asked)}
    expected = {"p0": (1, "answer is"), "p1": (-1, ""), "p2": (-1, ""), "p3": (1, "letter and words")}
    assert found == {question.pid: expected[question.pid] for question in chosen}
    system = read_system(path, asked, reading=Reading(missing="leave-out"))
    assert any(note.startswith("A subset: 2 of 4") for note in system.notes) == (counted == "pictures")


def test_rows_that_no_index_fits_are_found_by_their_words(tmp_path: Path, asked: list[Question]) -> None:
    path = write_table(tmp_path / "t.tsv", rows([asked[2], asked[1]], [901, 17], ["A", "C"]))
    assert [(p.pid, p.choice) for p in read_predictions(path, asked)] == [("p2", 0), ("p1", 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "Else?"}, "line 2: the question of this row, 'Else\\?', is not in the split"),
        ({"A": "other"}, "is not in the split with these options"),
        ({"answer": "B"}, "is not in the split with these options and this answer"),
    ],
)
def test_rows_of_other_questions_are_refused(
    tmp_path: Path, asked: list[Question], change: dict[str, str], message: str
) -> None:
    (table,) = rows(asked[:1], [0], ["A"])
    with pytest.raises(UserError, match=message):
        read_predictions(write_table(tmp_path / "t.tsv", [{**table, **change}]), asked)


def test_rows_that_may_be_several_questions_are_refused(tmp_path: Path, asked: list[Question]) -> None:
    """Two questions with the same words, one row, and an index that says neither."""
    twins = [*asked, replace(asked[0], pid="twin")]
    with pytest.raises(UserError, match="asked more often there than here"):
        read_predictions(write_table(tmp_path / "t.tsv", rows(asked[:1], [900], ["A"])), twins)
    order = [replace(asked[0], pid="1"), replace(asked[0], pid="0")]
    with pytest.raises(UserError, match="fit more than one of these"):
        read_predictions(write_table(tmp_path / "t.tsv", rows(order[:1], [0], ["A"])), order)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index\tquestion\tprediction\n0\tWhich?\tA\n", "line 2: a table of VLMEvalKit has the columns"),
        ("index\tprediction\n", "the table has no rows"),
        ('index\tquestion\tA\tprediction\n0\t"Which?\tx\tA\n', "line 2: the table cannot be read"),
        ("index\tquestion\tA\tprediction\n0\tWhich?\tx\tA\tB\n", "line 2: the row has 5 cells, the head 4"),
        ("index\tquestion\tA\tprediction\n0\t" + "x" * 200_000 + "\tx\tA\n", "Leave out a column 'image'"),
    ],
)
def test_damaged_tables_are_named(write: Callable[[str], Path], asked: list[Question], text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_predictions(write(text), asked)


ENTITY = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y "z">]><x>&y;</x>'


def archive(parts: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return data.getvalue()


# Made in the test: archives hold the time, so ids made of them would differ from one process of xdist to the next.
@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: b"PK\x03\x04 no archive", "no Excel workbook", id="no archive"),
        pytest.param(lambda: archive({"xl/workbook.xml": b"<workbook/>"}), "no Excel workbook", id="empty workbook"),
        pytest.param(lambda: archive({"a.xml": ENTITY}), "declares entities", id="entity"),
        pytest.param(lambda: archive({"a.xml": bytes(600 * 2**20)}), "larger than 512 MiB", id="large part"),
        pytest.param(
            lambda: archive({f"{number}.xml": b"" for number in range(1001)}), "larger than 512 MiB", id="many parts"
        ),
    ],
)
def test_archives_that_are_no_workbook_are_refused(tmp_path: Path, make: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "m_ScienceQA_TEST.xlsx"
    path.write_bytes(make())
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_with_a_byte_order_mark(tmp_path: Path, questions: list[Question], encoding: str) -> None:
    path = tmp_path / "file"
    path.write_bytes('{"question_id": "a", "text": "é: (A) x"}\r\n{"question_id": "b", "text": "C"}'.encode(encoding))
    assert [(p.pid, p.choice) for p in read_predictions(path, questions)] == [("a", -1), ("b", 2)]


def test_joined_files_have_marks_in_the_middle(write: Callable[[str], Path]) -> None:
    path = write('\ufeff{"pid": "a", "choice": 0}\n\ufeff{"pid": "b", "choice": 1}\n')
    assert [(p.pid, p.choice) for p in read_predictions(path)] == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("data", [b"\xe9\xe8 latin", b"\xff\xfe\x00", b"\x80PK", "B".encode("utf-16-le") + b"\xff\xff"])
def test_other_encodings_are_refused_in_a_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"not UTF-8|not JSON") as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


def test_lists_and_single_records(write: Callable[[str], Path], questions: list[Question]) -> None:
    """One JSON list of records is read as its lines would be, whoever wrote them; so is one record over many lines."""
    own = [{"pid": "a", "choice": 1}, {"pid": "b", "choice": 0}]
    llava = [{"question_id": "a", "text": "B"}, {"question_id": "b", "text": "A"}]
    for records in (own, llava):
        for indent in (None, 1):
            found = read_predictions(write(json.dumps(records, indent=indent)), questions)
            assert [(p.pid, p.choice) for p in found] == [("a", 1), ("b", 0)]
    assert [p.pid for p in read_predictions(write(json.dumps(own[0], indent=2)))] == ["a"]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"num_fail": 0, "preds": ["The answer is (B)."]}, ""),
        ({"correct": [], "incorrect": []}, ""),
        ([{"id": 3}], ", record 0"),
        ([[1]], ", record 0"),
        ("text", ", line 1"),
        ([], ", line 1"),
    ],
)
def test_json_in_no_known_layout_is_called_so(write: Callable[[str], Path], value: Any, place: str) -> None:
    """With the layouts that are known, and never as "not JSON"."""
    path = write(json.dumps(value, indent=1))
    with pytest.raises(UserError, match="VLMEvalKit's table") as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert "not JSON" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pids"),
    [
        ("20260101_120000_samples_scienceqa_img.jsonl", ["p0", "p3"]),
        ("samples_scienceqa.jsonl", ["p0", "p1"]),
        ("samples_scienceqa_full.jsonl", ["p0", "p1"]),
    ],
)
def test_the_name_of_samples_tells_the_task(tmp_path: Path, asked: list[Question], name: str, pids: list[str]) -> None:
    """Two samples of a run with ``--limit 2``, whose targets fit both ways of counting."""
    alike = [replace(question, options=("x", "y"), answer=1) for question in asked]
    path = tmp_path / name
    path.write_text("".join(json.dumps({"doc_id": n, "target": "B", "filtered_resps": ["B"]}) + "\n" for n in (1, 0)))
    system = read_system(path, alike, reading=Reading(missing="leave-out"))
    assert [question.pid for question in system.questions] == pids
    assert system.notes[0].startswith("A subset: 2 of 4")
    old = tmp_path / "old.json"
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    task = name.partition("samples_")[2].removesuffix(".jsonl")
    old.write_text(json.dumps({"model_configs": {"task": task}, "logs": samples}))
    assert {p.pid for p in read_predictions(old, alike)} == set(pids)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)),
    st.sampled_from((b"", b"PK\x03\x04", b"index\tprediction\n")),
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, begins: bytes) -> None:
    """Nothing but an error for people leaves the reader."""
    path = tmp_path / "file"
    path.write_bytes(begins + data)
    with contextlib.suppress(UserError):
        read_predictions(path)
