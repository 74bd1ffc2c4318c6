"""The figures are the official ScienceQA evaluator's, to the last decimal."""

import json
from pathlib import Path

import pytest

from mm_adapter.data.question import Question
from mm_adapter.eval.metrics import TOPICS, percentage
from mm_adapter.eval.parsing import parse_choice
from mm_adapter.eval.predictions import read_predictions, write_official
from mm_adapter.eval.system import read_system


def test_every_value_of_the_original_evaluator(official_folder: Path, official_questions: list[Question]) -> None:
    expected = json.loads((official_folder / "expected_gpt3.json").read_text())
    official = read_system(official_folder / "predictions_gpt3.json", official_questions).metrics.official
    assert official == expected
    assert list(official) == list(expected)
    assert [f"acc_{topic}" for topic in TOPICS] == list(expected)[9:]


def test_official_file_survives_reading_and_writing(official_folder: Path, tmp_path: Path) -> None:
    predictions = read_predictions(official_folder / "predictions_gpt3.json")
    write_official(tmp_path / "again", predictions)
    original = json.loads((official_folder / "predictions_gpt3.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "again").read_text(encoding="utf-8")) == original


def test_published_raw_texts_are_read_as_the_publisher_read_them(
    official_folder: Path, official_questions: list[Question]
) -> None:
    # One published index contradicts its own text ("The answer is B. BECAUSE: ...", index 0); empty texts were guessed.
    options = {question.pid: question.options for question in official_questions}
    texts = [p for p in read_predictions(official_folder / "predictions_gpt3.json") if p.raw_text]
    differing = [p.pid for p in texts if parse_choice(p.raw_text, options[p.pid]) != p.choice]
    assert len(texts) == 3210
    assert len(differing) == 1


@pytest.mark.parametrize(
    ("correct", "total", "expected"), [(1, 800, 0.12), (3, 800, 0.38), (1, 3, 33.33), (0, 7, 0.0), (7, 7, 100.0)]
)
def test_percentages_are_rounded_by_formatting(correct: int, total: int, expected: float) -> None:
    assert percentage(correct, total) == expected


def test_order_of_operations_is_the_official_one() -> None:
    # The trap: multiplying by 100 first gives another second decimal for some fractions.
    pairs = [(c, n) for n in range(1, 1001) for c in range(n + 1)]
    differing = [(c, n) for c, n in pairs if f"{c / n * 100:.2f}" != f"{100 * c / n:.2f}"]
    assert differing
    assert all(percentage(c, n) == float(f"{c / n * 100:.2f}") for c, n in differing)
