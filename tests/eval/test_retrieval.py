"""The baseline answers by what similar training questions answered, and by nothing else."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.retrieval import retrieval_predictions

ROOT = Path(__file__).resolve().parents[2]

TRAIN = [
    Question("t1", "Which material is this spoon made of?", ("metal", "wool"), 0),
    Question("t2", "Which is the capital of Kenya?", ("Lagos", "Nairobi", "Accra"), 1),
    Question("t3", "Which word is a verb?", ("run", "table"), 0),
]
TEST = [
    Question("q1", "Which material is this spoon made of?", ("wool", "metal"), 1),
    Question("q2", "Which is the capital of Kenya?", ("Accra", "Lagos", "Nairobi"), 2),
    Question("q3", "zzz", ("qqq", "jjj"), 1),
]


def test_similar_questions_vote_for_their_right_answer_wherever_it_stands() -> None:
    predictions = retrieval_predictions(TRAIN, TEST)
    assert [(p.pid, p.choice) for p in predictions] == [("q1", 1), ("q2", 2), ("q3", 0)]
    assert [len(p.scores) for p in predictions] == [2, 3, 2]
    assert predictions[2].scores == (0.0, 0.0)


def test_answers_of_the_test_questions_are_not_looked_at() -> None:
    hidden = [replace(question, answer=-1) for question in TEST]
    assert retrieval_predictions(TRAIN, hidden) == retrieval_predictions(TRAIN, TEST)


def test_training_question_does_not_vote_on_itself() -> None:
    alone = retrieval_predictions(TRAIN[:1], TRAIN[:1])
    assert alone[0].scores == (0.0, 0.0)


def test_more_neighbours_than_questions_are_all_questions() -> None:
    assert retrieval_predictions(TRAIN, TEST, 3) == retrieval_predictions(TRAIN, TEST, 100)


def test_many_questions_are_answered_as_each_alone() -> None:
    many = [replace(TEST[index % 3], pid=f"m{index}") for index in range(600)]
    expected = [prediction.choice for prediction in retrieval_predictions(TRAIN, TEST)] * 200
    assert [prediction.choice for prediction in retrieval_predictions(TRAIN, many)] == expected


def test_input_it_cannot_use_is_refused() -> None:
    assert retrieval_predictions(TRAIN, []) == []
    with pytest.raises(UserError, match="no training question"):
        retrieval_predictions([replace(TRAIN[0], answer=-1)], TEST)
    with pytest.raises(UserError, match="cannot compare"):
        retrieval_predictions([Question("t", "?", ("!", "?"), 0)], TEST)
    with pytest.raises(ValueError, match="neighbours"):
        retrieval_predictions(TRAIN, TEST, 0)


@pytest.fixture
def script() -> Callable[[list[str]], int]:
    """The script's ``main``."""
    main: Callable[[list[str]], int] = runpy.run_path(str(ROOT / "scripts" / "baseline_retrieval.py"))["main"]
    return main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The questions above in the official layout."""
    problems = {
        q.pid: {"question": q.question, "choices": q.options, "answer": q.answer, "hint": "", "image": None}
        for q in TRAIN + TEST
    }
    splits = {"train": [q.pid for q in TRAIN], "val": [], "test": [q.pid for q in TEST]}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "problems.json").write_text(json.dumps(problems))
    (tmp_path / "data" / "pid_splits.json").write_text(json.dumps(splits))
    return tmp_path / "data"


def test_script_prints_the_table_and_writes_what_it_was_told(
    script: Callable[[list[str]], int], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out", tmp_path / "metrics.json"
    assert script(["--data", str(folder), "--out", str(out), "--json", str(file)]) == 0
    assert "66.67" in capsys.readouterr().out
    assert json.loads(file.read_text())["official"]["acc_average"] == 66.67
    assert {path.name for path in out.iterdir()} == {"predictions.jsonl", "metrics.json", "metrics.csv", "report.md"}


def test_script_says_what_is_wrong_in_one_message(
    script: Callable[[list[str]], int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script(["--data", str(folder), "--split", "val"]) == 2
    assert "'val'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        script(["--data", str(folder), "--neighbours", "0"])
    assert "'0' is not a whole number from 1 up" in capsys.readouterr().err
