"""What LLaVA, lmms-eval and VLMEvalKit read in a text, by cases worked out from their code, and both figures told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mm_adapter.data.question import Question
from mm_adapter.eval.layouts import read_predictions
from mm_adapter.eval.page.content import BY, score_parts
from mm_adapter.eval.predictions import Prediction
from mm_adapter.eval.scores import remarks, score, to_values
from mm_adapter.eval.source_rules import LLAVA, llava_choice, lmms_eval_choice, vlmevalkit_choice
from mm_adapter.eval.system import make_system, read_system

OPTIONS = ("chiasmus", "apostrophe", "simile")


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval", "vlmevalkit"),
    [
        ("B", 1, 1, 1),
        ("b", -1, 1, -1),
        (" B\n", -1, 1, 1),
        ("B.", -1, 1, 1),
        ("B. apostrophe", 1, 1, 1),
        ("(B)", -1, -1, 1),
        ("D", -1, -1, -1),
        ("apostrophe", -1, -1, 1),
        ("The answer is B.", 1, -1, 1),
        ("The answer is B", -1, -1, 1),
        ("The answer is B. The answer is B.", -1, -1, -1),
        ("The answer is apostrophe", -1, -1, 1),
        ("The answer is A plant", 0, -1, 0),
        ("A or B", -1, -1, -1),
        ("<think>A</think>B", -1, -1, -1),
        ("B is the letter that one would choose", -1, -1, -1),
        ("It is one of chiasmus and apostrophe", -1, -1, -1),
        ("Cannot determine the answer: B", -1, -1, -1),
        ("not B", -1, -1, 1),
        ("", -1, -1, -1),
    ],
)
def test_readings_of_other_projects(text: str, llava: int, lmms_eval: int, vlmevalkit: int) -> None:
    read = (llava_choice(text, OPTIONS), lmms_eval_choice(text, OPTIONS), vlmevalkit_choice(text, OPTIONS))
    assert read == (llava, lmms_eval, vlmevalkit)


def llava_file(texts: dict[str, str]) -> str:
    return "".join(json.dumps({"question_id": pid, "text": text}) + "\n" for pid, text in texts.items())


def test_both_figures_where_they_differ(write: Callable[[str], Path], questions: list[Question]) -> None:
    """Answers: a is A, b is C, c is B, d is B. LLaVA reads two of the four, both right; here all four are read."""
    path = write(llava_file({"a": "A", "b": "**C**", "c": "B. y", "d": "\\boxed{A}"}))
    system = read_system(path, questions)
    found = system.source
    assert found is not None
    assert (found.tool, found.correct, found.own_correct, found.total) == (LLAVA, 2, 3, 4)
    assert found.differing == {"b": (2, -1), "d": (0, -1)}
    scores = score([system])
    told = " ".join(remarks(scores))
    assert "By LLaVA's own rules 2 of 4 are right (50.00 %), by ours 3 (75.00 %)" in told
    assert "'b': C here, unread there" in told
    assert to_values(scores)["source_reading"]["accuracy"] == 50.0
    part = next(part for part in score_parts(score([system], BY)) if part.name == "source-tools")
    assert part.table[1:] == [[system.name, LLAVA, "4", "2", "50.00", "3", "75.00", "2"]]


def test_nothing_is_said_where_readings_agree(write: Callable[[str], Path], questions: list[Question]) -> None:
    """The figure still stands in the JSON; where no texts are read, there is none."""
    system = read_system(write(llava_file({"a": "A", "b": "C", "c": "B", "d": "A"})), questions)
    assert system.notes == ()
    assert to_values(score([system]))["source_reading"]["accuracy"] == 75.0
    assert all(part.name != "source-tools" for part in score_parts(score([system], BY)))
    own = make_system("own", [Prediction(question.pid, 0) for question in questions], questions)
    assert to_values(score([own]))["source_reading"] is None


def test_every_layout_of_written_answers_says_whose_it_is(write: Callable[[str], Path]) -> None:
    question = Question("1", "Which?", OPTIONS, 1)
    texts = {
        "LLaVA": {"question_id": "1", "text": "B"},
        "lmms-eval": {"doc_id": 0, "target": "B", "filtered_resps": ["B"]},
        "VLMEvalKit": {"index": 0, "question": "Which?", **dict(zip("ABC", OPTIONS, strict=True)), "prediction": "B"},
    }
    for tool, fields in texts.items():
        (found,) = read_predictions(write(json.dumps(fields)), [question])
        assert (found.pid, found.choice, found.tool) == ("1", 1, tool)
