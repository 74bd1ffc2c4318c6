"""Predictions written as VLMEvalKit's table: pandas, which it reads with, and our own reader find what was written."""

import string
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.layouts import read_predictions
from mm_adapter.eval.layouts.vlmevalkit_table import write_vlmevalkit
from mm_adapter.eval.record import Prediction
from mm_adapter.eval.source_rules import vlmevalkit_choice

ENDINGS = [".tsv", ".xlsx"]


@pytest.fixture
def asked(questions: list[Question]) -> list[Question]:
    """Questions with words that tables stumble over; the first and the last have pictures."""
    words = [
        {"options": ("=1+1", "NA"), "question": 'Say "x"\tor\ny?'},
        {"options": ("007", "7", "-"), "question": "Which of three?"},
        {},
        {"options": ("None", "é, 猫"), "context": "@home, +1"},
    ]
    return [replace(question, pid=f"p{n}", **words[n]) for n, question in enumerate(questions)]  # type: ignore[arg-type]


def table(path: Path) -> Any:
    """Read a table as VLMEvalKit does."""
    return pd.read_excel(path) if path.suffix == ".xlsx" else pd.read_csv(path, sep="\t")


@pytest.mark.parametrize("ending", ENDINGS)
def test_pandas_reads_what_was_written(tmp_path: Path, asked: list[Question], ending: str) -> None:
    """Columns, words and answers; no text became a formula."""
    path = tmp_path / f"model_ScienceQA_TEST{ending}"
    texts = {"p0": "The answer is B.", "p1": "", "p2": "no idea", "p3": "A"}
    choices = {"p0": 1, "p1": 2, "p2": -1, "p3": 0}
    write_vlmevalkit(path, {pid: Prediction(pid, choices[pid], raw_text=texts[pid]) for pid in texts}, asked)
    found = table(path)
    assert list(found.columns) == ["index", "question", "hint", "A", "B", "C", "answer", "prediction"]
    assert list(found["index"]) == ["p0", "p1", "p2", "p3"]
    assert list(found["question"]) == [question.question for question in asked]
    assert list(found["answer"]) == [string.ascii_uppercase[question.answer] for question in asked]
    assert list(found["prediction"]) == ["The answer is B.", "C", "no idea", "A"]
    assert found["A"][0] == "=1+1"
    assert found["B"][3] == "é, 猫"
    assert found["hint"][3] == "@home, +1"
    back = {one.pid: one.choice for one in read_predictions(path, asked)}
    assert back == choices


@pytest.mark.parametrize("ending", ENDINGS)
def test_questions_with_pictures_are_counted(tmp_path: Path, asked: list[Question], ending: str) -> None:
    """The index is VLMEvalKit's own: the place among the questions that have one."""
    path = tmp_path / f"t{ending}"
    write_vlmevalkit(path, {"p3": Prediction("p3", 1), "p0": Prediction("p0", 0)}, asked)
    assert list(table(path)["index"]) == [0, 1]
    assert {one.pid: one.choice for one in read_predictions(path, asked)} == {"p0": 0, "p3": 1}


WRITTEN = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["A", "B.", "(c)", "x", "The answer is A. No, B.", "None", "NA", "=A", "A\x00B", "\ud800", "A or B"]
    ),
)


@given(text=WRITTEN, choice=st.integers(-1, 2), ending=st.sampled_from(ENDINGS))
def test_every_choice_is_read_again(text: str, choice: int, ending: str) -> None:
    """Whatever a system wrote: by our reader, and by VLMEvalKit's rules on what pandas hands them."""
    asked = [Question("q", "Which?", ("x", "None", "z"), 0)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{ending}"
        write_vlmevalkit(path, {"q": Prediction("q", choice, raw_text=text)}, asked)
        (back,) = read_predictions(path, asked)
        (cell,) = table(path)["prediction"]
    assert back.choice == choice
    if choice >= 0:
        assert vlmevalkit_choice(str(cell), asked[0].options) == choice


def test_what_cannot_be_written_is_said(tmp_path: Path, asked: list[Question]) -> None:
    """Endings, nothing to write, choices that are not there, texts too long for a cell; a long answer is its letter."""
    found = {"p0": Prediction("p0", 1)}
    for path, predictions, questions, message in (
        ("t.csv", found, asked, r"ends in \.tsv or \.xlsx"),
        ("t.tsv", {"other": Prediction("other", 0)}, asked, "no prediction of these questions"),
        ("t.tsv", {"p0": Prediction("p0", 5)}, asked, "p0"),
        ("t.xlsx", found, [replace(asked[0], context="x" * 40_000)], r"40,000 characters.*Write \.tsv instead"),
    ):
        with pytest.raises(UserError, match=message):
            write_vlmevalkit(tmp_path / path, predictions, questions)
    assert not list(tmp_path.iterdir())
    long = {"p0": Prediction("p0", 1, raw_text="The answer is B. " + "x" * 40_000)}
    write_vlmevalkit(tmp_path / "t.xlsx", long, asked)
    assert list(table(tmp_path / "t.xlsx")["prediction"]) == ["B"]


def test_by_the_command(tmp_path: Path, demo_folder: Path) -> None:
    """Official results of any system become a table with the same accuracy; two systems are refused."""
    from mm_adapter.cli import main
    from mm_adapter.data.readers import read_dataset
    from mm_adapter.eval.predictions import write_official
    from mm_adapter.eval.system import read_system

    questions = read_dataset(str(demo_folder)).split("test")
    answers = [Prediction(question.pid, index % 2) for index, question in enumerate(questions)]
    write_official(tmp_path / "official.json", answers)
    given = ["score", "--predictions", str(tmp_path / "official.json"), "--data", str(demo_folder)]
    for ending in ENDINGS:
        path = tmp_path / f"table{ending}"
        assert main([*given, "--vlmevalkit", str(path)]) == 0
        first, again = (read_system(file, questions) for file in (tmp_path / "official.json", path))
        assert first.metrics.official == again.metrics.official
    given.insert(3, str(tmp_path / "table.tsv"))
    assert main([*given, "--vlmevalkit", str(tmp_path / "two.tsv")]) == 2
    assert not (tmp_path / "two.tsv").exists()
