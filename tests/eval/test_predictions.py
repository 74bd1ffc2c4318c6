"""Predictions come back as they were written, and a file that does not fit is refused with the place of its fault."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.predictions import (
    Prediction,
    check_predictions,
    read_predictions,
    write_official,
    write_predictions,
)
from mm_adapter.eval.system import read_system

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# Any text a JSON file can carry, half surrogate pairs included: language models write such things.
TEXTS = st.text(st.characters(categories=None), max_size=20)
PREDICTIONS = st.lists(
    st.builds(
        Prediction,
        pid=TEXTS,
        choice=st.integers(-1, 10),
        scores=st.lists(FINITE, max_size=4).map(tuple),
        probabilities=st.integers(0, 4).map(lambda count: (1 / count,) * count if count else ()),
        rule=st.sampled_from(["", "letter"]),
        raw_text=TEXTS,
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda prediction: prediction.pid,
)
on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)


@on_disk
@given(PREDICTIONS)
def test_lines_bring_back_every_value_exactly(tmp_path: Path, predictions: list[Prediction]) -> None:
    write_predictions(tmp_path / "file", predictions)
    assert read_predictions(tmp_path / "file") == predictions


@on_disk
@given(PREDICTIONS)
def test_official_format_brings_back_everything_but_scores(tmp_path: Path, predictions: list[Prediction]) -> None:
    write_official(tmp_path / "file", predictions)
    expected = [Prediction(p.pid, p.choice, raw_text=p.raw_text) for p in predictions]
    assert read_predictions(tmp_path / "file") == expected


def test_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    predictions = [Prediction("1", 0, (0.1, -2.0), (0.9, 0.1), "é\n")]
    for name in ("one", "two"):
        write_predictions(tmp_path / name, predictions)
    text = (tmp_path / "one").read_text()
    assert text == (tmp_path / "two").read_text()
    assert list(json.loads(text)) == ["pid", "choice", "scores", "probabilities", "raw_text"]


def test_blank_lines_byte_order_mark_and_missing_optional_fields_are_fine(write: Callable[[str], Path]) -> None:
    path = write('\ufeff{"pid": "1", "choice": 0}\n\n{"pid": "2", "choice": -1, "scores": null}\r\n')
    assert read_predictions(path) == [Prediction("1", 0), Prediction("2", -1)]


def test_refused_value_leaves_the_old_file(write: Callable[[str], Path]) -> None:
    path = write("old")
    for write_file in (write_predictions, write_official):
        with pytest.raises(UserError, match="not finite"):
            write_file(path, [Prediction("1", 0, (float("nan"), 0.0))])
    assert path.read_text() == "old"


HUGE = "9" * 5000
LINE = '{"pid": "a", "choice": 0}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("hello", "not JSON"),
        ("3", "line 1: there is no object with 'pid' and 'choice'"),
        ("[]", "line 1: there is no object"),
        ('{"pid": "a"}', "line 1: there is no object with 'pid' and 'choice'"),
        ('{"results": {"a": 0}, "outputs": {"a": "The ans', "not JSON"),
        ('{\n  "results": {"a": 0},\n  "outputs": {"a": "The ans', "not JSON .*line 3"),
        ('{"results": [0]}', "'results' and 'outputs' must be objects"),
        ('{"results": {"a": 0}, "outputs": ["x"]}', "'results' and 'outputs' must be objects"),
        ('{"results": {}}', "'results' is empty"),
        ('{"results": {"a": 0, "a": 1}}', "'a' stands twice"),
        ('{"results": {"a": "B"}}', "choice of question 'a' is 'B'"),
        ('{"results": {"a": true}}', "choice of question 'a' is True"),
        ('{"results": {"a": 1.0}}', "choice of question 'a' is 1.0"),
        ('{"results": {"a": null}}', "choice of question 'a' is None"),
        ('{"results": {"a": 0}, "outputs": {"a": 5}}', "raw text of question 'a'"),
        (LINE + "{broken", "line 2: this is not JSON"),
        (LINE + "\n" + '{"pid": 4, "choice": 0}', "line 3: the pid 4 is not text"),
        (LINE + '{"pid": "b", "choice": -2}', "line 2: the choice of question 'b' is -2"),
        (LINE + '{"pid": "b", "choice": 0, "scores": "high"}', "line 2: 'scores' is not a list of numbers"),
        (LINE + '{"pid": "b", "choice": 0, "scores": [true, 1]}', "line 2: 'scores' is not a list of numbers"),
        (LINE + '{"pid": "b", "choice": 0, "scores": [NaN, 1]}', "line 2: question 'b' has a score that is not finite"),
        (LINE + '{"pid": "b", "choice": 0, "probabilities": [1e999]}', "line 2: question 'b' has a probability"),
        (
            LINE + '{"pid": "b", "choice": 0, "probabilities": [0.5, 0.6]}',
            "line 2: the probabilities of question 'b' .* 1.1",
        ),
        (LINE + '{"pid": "b", "choice": 0, "probabilities": [-0.5, 1.5]}', "line 2: .* the least is -0.5"),
        (LINE + f'{{"pid": "b", "choice": 0, "scores": [1{"0" * 400}]}}', "line 2: 'scores' is not a list of numbers"),
        (LINE + f'{{"pid": "b", "choice": {HUGE}}}', "line 2: |among those to score|has 2 options"),
        (LINE + '{"pid": ' + "[" * 200_000, "line 2: .*nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ('{"pid": "a", "choice": ' + "[" * 500 + "]" * 500 + "}", "choice of question 'a' is"),
    ],
)
def test_bad_file_is_refused_with_the_place_of_its_fault(
    write: Callable[[str], Path], questions: list[Question], text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(UserError, match=message) as caught:
        read_system(path, questions)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 500 + len(str(path))


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path / "nothing", "does not exist"),
        (tmp_path, "cannot be read"),
        (tmp_path / "binary", "not UTF-8"),
        (Path("null\0character"), "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            read_predictions(path)


def answers(**choices: int) -> list[Prediction]:
    return [Prediction(pid, choice) for pid, choice in choices.items()]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], "4 of 4 questions have no prediction: 'a', 'b', 'c', 'd'"),
        (answers(a=0, b=0, c=0), "1 of 4 questions have no prediction: 'd'"),
        (answers(a=0, b=0, c=0, d=0, e=0), "1 of 5 predicted questions.* not among those to score: 'e'"),
        (answers(a=0, b=0, c=0, d=0) + answers(a=1), "'a' is predicted twice, with different answers"),
        (answers(a=0, b=3, c=0, d=0), "'b' has 3 options, but option 3 is chosen"),
        (answers(a=0, b=10**5000, c=0, d=0), "'b' has 3 options, but option"),
        (answers(a=0, b=-2, c=0, d=0), "choice of question 'b' is -2"),
        ([Prediction("a", True), *answers(b=0, c=0, d=0)], "choice of question 'a' is True"),
        ([Prediction("a", 0, (1.0,)), *answers(b=0, c=0, d=0)], "'a' has 2 options but 1 scores"),
        ([Prediction("a", 0, (), (1.0,)), *answers(b=0, c=0, d=0)], "'a' has 2 options but 1 probabilities"),
        ([Prediction("a", 0, (0.0, float("inf"))), *answers(b=0, c=0, d=0)], "score that is not finite"),
    ],
)
def test_predictions_that_do_not_fit_the_questions_are_refused(
    questions: list[Question], predictions: list[Prediction], message: str
) -> None:
    with pytest.raises(UserError, match=f"^run: .*{message}"):
        check_predictions(predictions, questions, "run")


def test_message_about_many_questions_names_only_the_first(questions: list[Question]) -> None:
    many = [Prediction(f"x{number}", 0) for number in range(1000)]
    with pytest.raises(UserError, match=r"1000 .*'x0', 'x1', 'x2', 'x3', 'x4' and 995 more\. "):
        check_predictions(many, questions, "run")


def test_unreadable_answers_and_allowed_gaps_are_accepted(questions: list[Question]) -> None:
    check_predictions(answers(a=-1, b=2, c=0), questions, "run", missing_allowed={"d"})
    check_predictions(answers(a=-1, b=2, c=0, d=1, bad=0), questions, "run", missing_allowed={"bad"})
