"""Every question is counted once, in the classes it belongs to, and what was not answered is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.metrics import breakdown, evaluate_predictions, official_metrics, percentage
from mm_adapter.eval.predictions import Prediction

SUBJECTS = ["natural science", "social science", "language science"]


@st.composite
def answered(draw: st.DrawFn) -> tuple[list[Question], list[Prediction]]:
    """Questions of all classes, each with a prediction, right, wrong or unreadable."""
    questions, predictions = [], []
    for number in range(draw(st.integers(1, 30))):
        options = tuple("abcde"[: draw(st.integers(2, 5))])
        questions.append(
            Question(
                pid=str(number),
                question="?",
                options=options,
                answer=draw(st.integers(0, len(options) - 1)),
                context=draw(st.sampled_from(["", "text"])),
                image=draw(st.sampled_from([None, Path("image.png")])),
                subject=draw(st.sampled_from(SUBJECTS)),
                topic=draw(st.sampled_from(["physics", "civics", "of our own", ""])),
                grade=draw(st.integers(1, 12)),
            )
        )
        predictions.append(Prediction(str(number), draw(st.integers(-1, len(options) - 1))))
    return questions, predictions


@given(answered())
def test_classes_weighted_by_their_counts_average_to_the_average(case: tuple[list[Question], list[Prediction]]) -> None:
    questions, predictions = case
    right = sum(p.choice == q.answer for q, p in zip(questions, predictions, strict=True))
    assert official_metrics(predictions, questions)["acc_average"] == percentage(right, len(questions))
    for key in ("subject", "topic", "category", "skill", "grade"):
        rows = breakdown(predictions, questions, key)
        assert (sum(row.correct for row in rows), sum(row.total for row in rows)) == (right, len(questions))


@given(answered())
def test_official_classes_partition_the_questions(case: tuple[list[Question], list[Prediction]]) -> None:
    questions, predictions = case
    metrics = evaluate_predictions(predictions, questions)
    counts = metrics.counts
    assert counts["acc_natural"] + counts["acc_social"] + counts["acc_language"] == len(questions)
    assert counts["acc_grade_1_6"] + counts["acc_grade_7_12"] == len(questions) == counts["acc_average"]
    both = sum(bool(q.context) and q.image is not None for q in questions)
    assert counts["acc_has_text"] + counts["acc_has_image"] - both + counts["acc_no_context"] == len(questions)
    assert all((value is None) == (counts[key] == 0) for key, value in metrics.official.items())


@given(answered(), st.data())
def test_order_of_predictions_does_not_matter(
    case: tuple[list[Question], list[Prediction]], data: st.DataObject
) -> None:
    questions, predictions = case
    shuffled = data.draw(st.permutations(predictions))
    assert evaluate_predictions(shuffled, questions) == evaluate_predictions(predictions, questions)


@given(answered(), st.data())
def test_skipping_a_question_counts_it_wrong_whether_its_question_is_known_or_not(
    case: tuple[list[Question], list[Prediction]], data: st.DataObject
) -> None:
    questions, predictions = case
    skipped = data.draw(st.sets(st.sampled_from([q.pid for q in questions]), max_size=len(questions) - 1))
    reasons = dict.fromkeys(skipped, "bad")
    rest = [q for q in questions if q.pid not in skipped]
    known = evaluate_predictions(predictions, questions, reasons)
    unknown = evaluate_predictions(predictions, rest, reasons)
    right = sum(p.choice == q.answer for q, p in zip(questions, predictions, strict=True) if q.pid not in skipped)
    assert known.official["acc_average"] == unknown.official["acc_average"] == percentage(right, len(questions))
    assert known.counts["acc_average"] == unknown.counts["acc_average"] == len(questions)
    assert known.skipped == reasons


def test_figures_of_a_case_small_enough_to_check_by_hand(questions: list[Question]) -> None:
    choices = {"a": 0, "b": -1, "c": 1, "d": 0}
    metrics = evaluate_predictions([Prediction(pid, choice) for pid, choice in choices.items()], questions)
    official = {key: value for key, value in metrics.official.items() if value is not None}
    assert official == {
        "acc_natural": 50.0,
        "acc_social": 0.0,
        "acc_language": 100.0,
        "acc_has_text": 0.0,
        "acc_has_image": 50.0,
        "acc_no_context": 100.0,
        "acc_grade_1_6": 100.0,
        "acc_grade_7_12": 50.0,
        "acc_average": 50.0,
        "acc_verbs": 100.0,
        "acc_civics": 0.0,
        "acc_physics": 100.0,
        "acc_biology": 0.0,
    }
    assert metrics.unparseable == 1
    assert [(row.name, row.correct, row.total) for row in metrics.by_category] == [
        ("(none)", 0, 1),
        ("c", 1, 2),
        ("d", 1, 1),
    ]


def test_topic_of_our_own_is_in_the_breakdown_and_not_among_the_official_keys(questions: list[Question]) -> None:
    questions = [replace(question, topic="digits") for question in questions]
    metrics = evaluate_predictions([Prediction(q.pid, 0) for q in questions], questions)
    assert "acc_digits" not in metrics.official
    assert [row.name for row in metrics.by_topic] == ["digits"]


def test_grades_are_sorted_as_numbers(questions: list[Question]) -> None:
    rows = breakdown([Prediction(q.pid, 0) for q in questions], questions, "grade")
    assert [row.name for row in rows] == ["(none)", "1", "7", "12"]


def test_unreadable_answer_is_never_right_not_even_where_the_answer_is_unknown(questions: list[Question]) -> None:
    unknown = [replace(questions[0], answer=-1)]
    with pytest.raises(UserError, match="'a' has no known answer"):
        evaluate_predictions([Prediction("a", -1)], unknown)


def test_missing_prediction_is_refused_by_each_figure(questions: list[Question]) -> None:
    with pytest.raises(UserError, match="'a' has no prediction"):
        official_metrics([], questions)
    with pytest.raises(UserError, match="no question to score"):
        evaluate_predictions([], [])


def test_all_questions_skipped_is_zero_and_not_a_crash() -> None:
    metrics = evaluate_predictions([], [], {"x": "bad"})
    assert metrics.official["acc_average"] == 0.0
    assert metrics.official["acc_natural"] is None
