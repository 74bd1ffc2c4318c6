"""Options with letters in one cell, labels of another letter case, and the first line that Excel writes."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import TableOptions
from mm_adapter.data.readers import read_dataset


def first(folder: Path, fields: dict[str, Any], **options: Any) -> tuple[tuple[str, ...], int]:
    path = folder / "one.json"
    path.write_text(json.dumps([{"question": "q?", **fields}]))
    (question,) = read_dataset(str(path), options=TableOptions(**options)).questions
    return question.options, question.answer


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("(a) oak | (b) fir (young)", ("oak", "fir (young)")),
        ("[A] oak; [B] fir [old]; [C] yew", ("oak", "fir [old]", "yew")),
        ("a) oak\nb) fir (b)", ("oak", "fir (b)")),
        ("(1) oak | (2) fir (2)", ("oak", "fir (2)")),
        ("(oak) x | y (fir)", None),
        ("(a) oak | (c) fir (x)", None),
        ("(b) oak | (a) fir (x)", None),
        ("['oak' | 'fir']", None),
        ("oak (a) | fir (b)", ("oak (a)", "fir (b)")),
        ("A. Smith | B. Jones", ("A. Smith", "B. Jones")),
    ],
)
def test_a_cell_of_lettered_options(tmp_path: Path, cell: str, options: tuple[str, ...] | None) -> None:
    """Letters in their order are labels and no words; what is neither parts nor a list is refused."""
    if options is None:
        with pytest.raises(UserError, match="neither JSON nor Python"):
            first(tmp_path, {"choices": cell, "answer": "x"})
    else:
        assert first(tmp_path, {"choices": cell, "answer": options[1]}) == (options, 1)


@pytest.mark.parametrize("answer", ["b", "B", "(b)", "b.", "b) fir (young)", "(B) Fir (young)", "fir (young)"])
def test_answers_to_lettered_options(tmp_path: Path, answer: str) -> None:
    assert first(tmp_path, {"choices": "(a) oak | (b) fir (young)", "answer": answer})[1] == 1
    assert first(tmp_path, {"choices": {"A": "oak", "B": "fir (young)"}, "answer": answer})[1] == 1


@pytest.mark.parametrize(
    ("choices", "answer", "said"),
    [
        ({"A": "oak", "B": "fir"}, "c", "which is not"),
        ({"A": "oak", "B": "fir"}, "(b) oak", "which is not"),
        ({"A": "b", "B": "a"}, "b", "'a' by letter and 'b' by text.*--answers"),
        ({"a": "oak", "A": "fir"}, "(A)", "which is not"),
    ],
)
def test_labels_that_do_not_tell(tmp_path: Path, choices: dict[str, str], answer: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        first(tmp_path, {"choices": choices, "answer": answer})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("abc ()é", min_size=1).filter(lambda t: t.strip() == t), min_size=2, max_size=6), st.data())
def test_any_lettered_options_come_back(tmp_path: Path, words: list[str], data: st.DataObject) -> None:
    """Whatever brackets the words have themselves."""
    index = data.draw(st.integers(0, len(words) - 1))
    letters = "abcdef"
    cell = " | ".join(f"({letter}) {option}" for letter, option in zip(letters, words, strict=False))
    assert first(tmp_path, {"choices": cell, "answer": letters[index].upper()}, answers="letter") == (
        tuple(words),
        index,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(";,|\t:"), st.sampled_from(["sep={}\r\n", '"sep={}"\r\n', "SEP={}\n", "\ufeffsep={}\n"]))
def test_the_line_that_tells_excel_the_separator(tmp_path: Path, separator: str, line: str) -> None:
    """It is no row, it decides over what the next line looks like, and places still count it."""
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(line.format(separator))
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([["Question", "A", "B", "Answer"], ["one, two; three?", "x, y", "z", "B"]])
    (question,) = read_dataset(str(path)).questions
    assert (question.question, question.options, question.answer) == ("one, two; three?", ("x, y", "z"), 1)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write("cut off\r\n")
    with pytest.raises(UserError, match="line 4: fewer cells"):
        read_dataset(str(path))
