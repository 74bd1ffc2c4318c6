"""The tables say what the metrics say, in every form."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.metrics import Metrics, evaluate_predictions
from mm_adapter.eval.official_report import (
    class_table,
    notes,
    official_table,
    screen,
    to_csv,
    to_markdown,
    to_text,
    write_report,
)
from mm_adapter.eval.predictions import Prediction


@pytest.fixture
def metrics(questions: list[Question]) -> Metrics:
    """Figures of one right answer in each of two classes, an unreadable one and a skipped question."""
    questions = [replace(question, skill="read | write\nwell") for question in questions]
    choices = {"a": 0, "b": -1, "c": 1, "d": 0}
    return evaluate_predictions([Prediction(*item) for item in choices.items()], questions, {"e": "no options"})


def test_official_table_has_the_columns_of_the_field(metrics: Metrics) -> None:
    table = official_table({"base": metrics.official, "nothing": {}})
    assert table[0] == ["", "NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12", "Avg"]
    assert table[1] == ["base", "50.00", "0.00", "100.00", "0.00", "50.00", "100.00", "100.00", "50.00", "40.00"]
    assert table[2] == ["nothing"] + ["-"] * 9


def test_terminal_table_is_aligned() -> None:
    text = to_text([["", "NAT", "Avg"], ["a long name", "100.00", "5.00"], ["b", "-", "-"]])
    assert text == "                NAT   Avg\na long name  100.00  5.00\nb                 -     -\n"


def test_markdown_cells_cannot_break_the_table(metrics: Metrics) -> None:
    markdown = to_markdown(class_table("skill", metrics.by_skill))
    assert markdown == (
        "| skill | correct | questions | accuracy |\n| --- | ---: | ---: | ---: |\n"
        "| read \\| write well | 2 | 4 | 50.00 |\n"
    )


def test_csv_reads_back(metrics: Metrics) -> None:
    table = class_table("skill", metrics.by_skill)
    expected = [[" ".join(cell.split()) for cell in row] for row in table]
    assert list(csv.reader(io.StringIO(to_csv(table), newline=""))) == expected


def test_report_folder_holds_the_same_figures_three_times(metrics: Metrics, tmp_path: Path) -> None:
    write_report(tmp_path / "new", metrics, "base")
    stored = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert stored == metrics.to_json()
    assert set(stored) == {
        *("accuracy", "official", "counts", "by_topic", "by_category", "by_skill"),
        *("unparseable", "skipped"),
    }
    assert next(iter(stored.items())) == ("accuracy", 40.0)
    with open(tmp_path / "new" / "metrics.csv", newline="") as file:
        rows = {(row["table"], row["name"]): row for row in csv.DictReader(file)}
    assert rows["official", "acc_average"] == {
        "table": "official",
        "name": "acc_average",
        "questions": "5",
        "accuracy": "40.00",
    }
    assert rows["topic", "physics"]["accuracy"] == "100.00"
    report = (tmp_path / "new" / "report.md").read_text()
    assert "| base | 50.00 | 0.00 |" in report
    assert "| questions | 2 | 1 | 1 | 2 | 2 | 1 | 1 | 2 | 5 |" in report
    assert "| e | no options |" in report
    assert notes(metrics) in report
    assert notes(metrics) == (
        "5 questions. 1 answers could not be read; they count as wrong. "
        "1 bad questions were skipped; they count as wrong."
    )


def test_a_set_without_subjects_has_no_columns_of_dashes(questions: list[Question], tmp_path: Path) -> None:
    """Only what the questions have stands on the screen and in the report; the CSV keeps every key."""
    plain = [Question(str(i), "?", ("a", "b"), i % 2, image=Path("x.png"), topic="ab"[i // 3]) for i in range(4)]
    found = evaluate_predictions([Prediction(q.pid, 0) for q in plain], plain)
    lines = [line.split() for line in screen(found, "run").splitlines()]
    assert lines[:2] == [["IMG", "Avg"], ["run", "50.00", "50.00"]]
    assert lines[3:6] == [
        ["topic", "correct", "questions", "accuracy"],
        ["a", "2", "3", "66.67"],
        ["b", "0", "1", "0.00"],
    ]
    assert "".join(screen(found, "run").splitlines()[-1:]) == "4 questions."
    write_report(tmp_path, found, "run")
    report = (tmp_path / "report.md").read_text()
    assert "| questions | 4 | 4 |" in report
    assert [line for line in report.splitlines() if line.startswith("#")] == ["# run", "## By topic"]
    assert not {"-", "(none)", "subject"} & set(report.replace("|", " ").split())
    assert "official,acc_natural,0,-" in (tmp_path / "metrics.csv").read_text()
    science = evaluate_predictions([Prediction(q.pid, 0) for q in questions], questions)
    assert "topic" not in screen(science, "run")


def test_folder_that_cannot_be_written_is_named(metrics: Metrics, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path / "file", metrics, "base")
