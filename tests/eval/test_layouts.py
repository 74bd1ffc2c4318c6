"""Predictions in every layout of the field give the official figures, or are refused by name."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.calibration import calibration
from mm_adapter.eval.layouts import read_predictions
from mm_adapter.eval.predictions import Prediction, write_predictions
from mm_adapter.eval.system import Reading, read_system


def letter(choice: int) -> str:
    return chr(ord("A") + choice)


def llava_lines(results: dict[str, int]) -> str:
    """As LLaVA's model_vqa_science.py writes them, fields and order."""
    lines = [
        {"question_id": pid, "prompt": "<image>\nWhich?", "text": letter(c), "answer_id": "x", "model_id": "llava"}
        for pid, c in results.items()
    ]
    return "".join(json.dumps({**line, "metadata": {}}) + "\n" for line in lines)


def lmms_sample(place: int, question: Question, text: str, **more: Any) -> dict[str, Any]:
    """As lmms-eval's evaluator logs it, fields and order; newer files have no ``doc`` and no ``resps``."""
    return {
        "doc_id": place,
        "target": letter(question.answer),
        "filtered_resps": [text],
        "doc_hash": "0",
        "prompt_hash": "0",
        "target_hash": "0",
        "exact_match": 0.0,
        "input": "Which?",
        **more,
    }


def lmms_lines(questions: Sequence[Question], results: dict[str, int]) -> str:
    samples = [lmms_sample(i, q, f"{letter(results[q.pid])}.") for i, q in enumerate(questions)]
    return "".join(json.dumps(sample) + "\n" for sample in reversed(samples))


@pytest.mark.parametrize("layout", ["own", "official", "llava", "lmms-eval", "lmms-eval with doc"])
def test_official_figures_through_every_layout(
    tmp_path: Path, official_folder: Path, official_questions: list[Question], layout: str
) -> None:
    """GPT-3's published answers, converted: all 35 values of the official evaluator, whatever the layout."""
    results = json.loads((official_folder / "predictions_gpt3.json").read_text())["results"]
    path = tmp_path / "file"
    if layout == "own":
        write_predictions(path, [Prediction(pid, choice) for pid, choice in results.items()])
    elif layout == "official":
        path.write_text(json.dumps({"results": results}))
    elif layout == "llava":
        path.write_text(llava_lines(results))
    elif layout == "lmms-eval":
        path.write_text(lmms_lines(official_questions, results))
    else:
        docs = [{"question": q.question, "choices": list(q.options), "hint": q.context} for q in official_questions]
        logs = [
            lmms_sample(i, q, letter(results[q.pid]), doc=doc, resps=[[letter(results[q.pid])]])
            for i, (q, doc) in enumerate(zip(official_questions, docs, strict=True))
        ]
        path.write_text(json.dumps({"args": {}, "model_configs": {}, "logs": logs}))
    found = read_system(path, official_questions).metrics.official
    expected = json.loads((official_folder / "expected_gpt3.json").read_text())
    assert {key: found[key] for key in expected} == expected


def test_written_answers_keep_text_and_rule(write: Callable[[str], Path], questions: list[Question]) -> None:
    """Each prediction says by which rule it was read; what no rule reads is -1 and kept as it was written."""
    asked = [replace(question, options=("apple", "pear", "plum")) for question in questions]
    texts = {"a": "The answer is B.", "b": "Plum.", "c": "I cannot tell.", "d": "A. apple"}
    path = write("".join(json.dumps({"question_id": pid, "text": text}) + "\n" for pid, text in texts.items()))
    found = {p.pid: (p.choice, p.rule, p.raw_text) for p in read_predictions(path, asked)}
    assert found == {
        "a": (1, "answer is", "The answer is B."),
        "b": (2, "words", "Plum."),
        "c": (-1, "", "I cannot tell."),
        "d": (0, "letter and words", "A. apple"),
    }


def test_number_as_pid_of_llava(write: Callable[[str], Path]) -> None:
    """Some forks write question_id as a number; problems.json has text."""
    question = Question("12", "?", ("x", "y"), 0)
    (found,) = read_predictions(write('{"question_id": 12, "text": "B"}'), [question])
    assert (found.pid, found.choice) == ("12", 1)


def test_samples_of_questions_with_pictures(write: Callable[[str], Path], questions: list[Question]) -> None:
    """scienceqa_img counts questions with a picture alone: the targets tell, and the rest can be left out."""
    pictured = [questions[0], questions[3]]
    samples = [lmms_sample(place, question, "B") for place, question in enumerate(pictured)]
    path = write("".join(json.dumps(sample) + "\n" for sample in samples))
    assert [(p.pid, p.choice) for p in read_predictions(path, questions)] == [("a", 1), ("d", 1)]
    with pytest.raises(UserError, match="2 of 4 questions have no prediction"):
        read_system(path, questions)
    found = read_system(path, questions, reading=Reading(missing="leave-out"))
    assert found.metrics.counts["acc_average"] == 2
    assert found.absent == ("b", "c")
    assert "A subset: 2 of 4" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question_id": "a", "text": "A"}\n{"question_id": "b"}', "line 2: .*one of them is missing"),
        ('{"question_id": "a", "text": 4}', "line 1: 'text' is not text"),
        ('{"question_id": [], "text": "A"}', "line 1: the pid"),
        ('{"doc_id": 0, "resps": [["A"]], "target": "C"}', "do not fit the order"),
        ('{"doc_id": 9, "resps": [["A"]], "target": "A"}', "do not fit the order"),
        ('{"doc_id": "0", "resps": [["A"]], "target": "A"}', "'doc_id' is '0'"),
        ('{"doc_id": 0, "resps": [[[-1.5, true]]], "target": "A"}', "holds no text"),
        ('{"doc_id": 0, "resps": [["A"]], "target": "A"}\n{"doc_id": 1}', "line 2: .*one is missing"),
        ('{"logs": [3]}', "sample 0: this is no object"),
        ('{"doc_id": 0, "resps": [["A"]], "target": "A", "doc": {"question": "Else?"}}', "not in the split"),
    ],
)
def test_file_that_is_not_as_its_layout_says(
    write: Callable[[str], Path], questions: list[Question], text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(UserError, match=message) as caught:
        read_system(path, questions)
    assert str(caught.value).startswith(str(path))


def test_drawn_answers_are_seeded_and_labelled(write: Callable[[str], Path], questions: list[Question]) -> None:
    """The habit of others can be reproduced, and is told as what it is; the answers that were read stay."""
    path = write(
        "".join(json.dumps({"question_id": q.pid, "text": "?"}) + "\n" for q in questions[:3])
        + json.dumps({"question_id": "d", "text": "B"})
    )
    wrong = read_system(path, questions)
    assert wrong.unread == ("a", "b", "c")
    assert wrong.metrics.official["acc_average"] == 25.0
    drawn = [read_system(path, questions, reading=Reading(unparseable="random", seed=seed)) for seed in (1, 1, 2, 3)]
    choices = [[p.choice for p in system.predictions.values()] for system in drawn]
    assert choices[0] == choices[1]
    assert len({tuple(row) for row in choices}) > 1
    assert all(0 <= c < len(q.options) for row in choices for c, q in zip(row, questions, strict=True))
    assert drawn[0].predictions["d"] == wrong.predictions["d"]
    assert drawn[0].unread == ("a", "b", "c")
    assert "3 answers could not be read and were drawn at random (seed 1)" in drawn[0].notes[0]


def test_an_order_that_is_not_certain_is_refused(write: Callable[[str], Path], questions: list[Question]) -> None:
    """One sample whose target fits both ways of counting says nothing of which it is."""
    asked = [replace(questions[1], answer=0), questions[0]]
    path = write(json.dumps(lmms_sample(0, asked[1], "A")))
    with pytest.raises(UserError, match="'target' fits both"):
        read_predictions(path, asked)
    asked[0] = replace(asked[0], answer=1)
    assert [p.pid for p in read_predictions(path, asked)] == ["a"]


@pytest.mark.parametrize(
    "doc", [{"question": {}, "choices": [], "hint": []}, {"question": "?", "choices": 3, "hint": [1]}]
)
def test_doc_of_other_kinds(write: Callable[[str], Path], questions: list[Question], doc: dict[str, Any]) -> None:
    path = write(json.dumps(lmms_sample(0, questions[0], "A", doc=doc)))
    with pytest.raises(UserError, match="not in the split"):
        read_predictions(path, questions)


def test_unread_absent_and_drawn_are_told_apart(write: Callable[[str], Path], questions: list[Question]) -> None:
    """Who gave no answer gave no unreadable one; a drawn answer is no confidence of the system."""
    line = {"pid": "a", "choice": -1, "probabilities": [0.5, 0.5], "raw_text": "\ud800?"}
    path = write(json.dumps(line) + "\n" + json.dumps({"pid": "b", "choice": 2}))
    wrong = read_system(path, questions, reading=Reading(missing="wrong"))
    assert (wrong.metrics.unparseable, len(wrong.absent)) == (1, 2)
    drawn = read_system(path, questions, reading=Reading(missing="wrong", unparseable="random"))
    assert drawn.metrics.unparseable == 0
    assert calibration(drawn.predictions, drawn.questions) is None
    turned = write(json.dumps({"pid": "b", "choice": 2}) + "\n" + json.dumps(line))
    again = read_system(turned, questions, reading=Reading(missing="wrong", unparseable="random"))
    assert again.predictions["a"] == drawn.predictions["a"]
