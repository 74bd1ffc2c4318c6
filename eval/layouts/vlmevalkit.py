"""Results of VLMEvalKit (github.com/open-compass/VLMEvalKit): ``MODEL_ScienceQA_TEST.xlsx``, ``.tsv`` or ``.json``.

A row has ``index``, ``question``, the options in ``A``, ``B`` and so on, ``answer`` (a letter) and ``prediction``,
what the model wrote. ``index`` is a running number of the questions with a picture (VLMEvalKit's own ScienceQA), or of
all of the split, or a pid: whichever fits the words, options and answers of every row. Where none fits, rows are found
by their words and options, in order.
"""

import string
from collections.abc import Mapping, Sequence

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.checks import shortened
from mm_adapter.eval.layouts.json_text import prediction
from mm_adapter.eval.parsing import read_choice
from mm_adapter.eval.record import Prediction
from mm_adapter.eval.source_rules import VLMEVALKIT

# What pandas, which VLMEvalKit reads and writes tables with, takes for an empty cell.
LOST_CELLS = frozenset(("NA", "N/A", "n/a", "nan", "NaN", "None", "null", "NULL", "<NA>", "#N/A"))


def is_vlmevalkit(fields: Mapping[str, object]) -> bool:
    """Say whether a row is VLMEvalKit's."""
    return "index" in fields and "prediction" in fields


def vlmevalkit_predictions(
    rows: Sequence[tuple[str, Mapping[str, object]]], questions: Sequence[Question]
) -> list[Prediction]:
    """Return the predictions of a table's rows.

    Args:
        rows: place, for messages, and column -> cell.
        questions: the split that was answered, in its order.

    Raises:
        UserError: a column is missing, or the rows fit no order of the questions.
    """
    for where, row in rows:
        if not is_vlmevalkit(row) or "question" not in row or "A" not in row:
            raise UserError(
                f"{where}: a table of VLMEvalKit has the columns 'index', 'question', 'A', 'B' and so on, and "
                "'prediction'. Write all of them."
            )
    found = _by_index(rows, questions) or _by_content(rows, questions)
    predictions = []
    for (where, row), question in zip(rows, found, strict=True):
        written = _text(row["prediction"])
        choice, rule = read_choice(written, question.options, question.question)
        predictions.append(prediction(where, question.pid, choice, raw_text=written, rule=rule, tool=VLMEVALKIT))
    return predictions


def _by_index(rows: Sequence[tuple[str, Mapping[str, object]]], questions: Sequence[Question]) -> list[Question] | None:
    pictured = [question for question in questions if question.image is not None]
    orders: tuple[Mapping[str, Question], ...] = (
        {str(place): question for place, question in enumerate(pictured)},
        {str(place): question for place, question in enumerate(questions)},
        {question.pid: question for question in questions},
    )
    fitting: list[list[Question]] = []
    for order in orders:
        found = [order.get(_text(row["index"])) for _, row in rows]
        fits = [question for question, (_, row) in zip(found, rows, strict=True) if question and _fits(row, question)]
        if len(fits) == len(rows) and fits not in fitting:
            fitting.append(fits)
    if len(fitting) > 1:
        raise UserError(
            f"{rows[0][0]}: 'index' may be a pid, or count all questions or those with a picture alone, for the rows "
            "fit more than one of these. Write pids as 'index', or score the whole table."
        )
    return fitting[0] if fitting else None


def _by_content(rows: Sequence[tuple[str, Mapping[str, object]]], questions: Sequence[Question]) -> list[Question]:
    waiting = list(questions)
    found = []
    for where, row in rows:
        fits = next((question for question in waiting if _fits(row, question)), None)
        if fits is None:
            raise UserError(
                f"{where}: the question of this row, {shortened(row['question'])}, is not in the split with these "
                "options and this answer, or stands in more rows than there. Check --data and --split."
            )
        waiting.remove(fits)
        found.append(fits)
    for (where, row), _ in zip(rows, found, strict=True):
        if any(_fits(row, question) for question in waiting):
            raise UserError(
                f"{where}: 'index' fits no order of the split, and {shortened(row['question'])} is asked more often "
                "there than here, so the row may be any of them. Write pids as 'index'."
            )
    return found


def _fits(row: Mapping[str, object], question: Question) -> bool:
    letters = string.ascii_uppercase[: len(question.options)]
    beyond = string.ascii_uppercase[len(question.options) : len(question.options) + 1]
    answer = _text(row.get("answer"))
    return (
        _evened(_text(row["question"])) == _evened(question.question)
        and all(
            _same(_text(row.get(letter)), option) for letter, option in zip(letters, question.options, strict=False)
        )
        and not _text(row.get(beyond))
        and answer in ("", letters[question.answer] if 0 <= question.answer < len(letters) else "")
    )


def _same(cell: str, option: str) -> bool:
    return _evened(cell) == _evened(option) or (not cell.strip() and option.strip() in LOST_CELLS)


def _evened(text: str) -> str:
    return " ".join(text.split())


def _text(value: object) -> str:
    return "" if value is None else str(value)
