"""Calibration figures against their definitions, written out plainly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.data.question import Question
from mm_adapter.eval.calibration import calibration
from mm_adapter.eval.record import Prediction

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(1, 50), min_size=4, max_size=4), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


@given(ROWS)
def test_against_the_definitions(rows: list[tuple[int, list[int], int]]) -> None:
    questions = [Question(str(i), "?", ("a", "b", "c", "d"), answer) for i, (answer, _, _) in enumerate(rows)]
    predictions = {}
    for question, (_, weights, choice) in zip(questions, rows, strict=True):
        probabilities = tuple(weight / sum(weights) for weight in weights)
        predictions[question.pid] = Prediction(question.pid, choice, (), probabilities)
    found = calibration(predictions, questions)
    assert found is not None
    confidence = [predictions[q.pid].probabilities[predictions[q.pid].choice] for q in questions]
    right = [predictions[q.pid].choice == q.answer for q in questions]
    error = 0.0
    for index in range(15):
        inside = [i for i, c in enumerate(confidence) if int(c * 15) == index]
        if inside:
            distance = sum(confidence[i] for i in inside) - sum(right[i] for i in inside)
            error += abs(distance) / len(rows)
    assert found.expected_error == pytest.approx(error)
    brier = sum(
        (p - (i == q.answer)) ** 2 for q in questions for i, p in enumerate(predictions[q.pid].probabilities)
    ) / len(rows)
    assert found.brier == pytest.approx(brier)
    assert found.coverage[-1] == 1.0
    assert found.risk[-1] == pytest.approx(1 - sum(right) / len(rows))
    assert sum(part.count for part in found.bins) == found.questions == len(rows)


def test_the_surest_answers_come_first() -> None:
    questions = [Question(str(i), "?", ("a", "b"), 0) for i in range(3)]
    sure = [(0, 0.9), (0, 0.8), (1, 0.6)]
    predictions = {
        str(i): Prediction(str(i), c, (), (p, 1 - p) if c == 0 else (1 - p, p)) for i, (c, p) in enumerate(sure)
    }
    found = calibration(predictions, questions)
    assert found is not None
    assert found.risk == pytest.approx((0.0, 0.0, 1 / 3))
    assert found.risk_area == pytest.approx(1 / 9)
    same = {pid: Prediction(pid, one.choice, (), (0.5, 0.5)) for pid, one in predictions.items()}
    tied = calibration(same, questions)
    assert tied is not None
    assert tied.risk == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_answers_without_probabilities_have_none() -> None:
    question = Question("a", "?", ("x", "y"), 0)
    assert calibration({"a": Prediction("a", 0)}, [question]) is None
    assert calibration({"a": Prediction("a", -1, (), (0.5, 0.5))}, [question]) is None
