"""Predictions of any system: five layouts, each read by a reader of its own; the content tells which one it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.layouts.json_text import FORMATS, UNKNOWN, NotOneValue, objects_of_lines, parse_json, read_text
from mm_adapter.eval.layouts.llava_answers import is_llava, llava_prediction
from mm_adapter.eval.layouts.lmms_eval import counts_pictures, is_lmms_eval, lmms_eval_predictions, logged_samples
from mm_adapter.eval.layouts.official_results import is_official, official_predictions
from mm_adapter.eval.layouts.own import own_prediction
from mm_adapter.eval.layouts.spreadsheet import is_table, is_workbook, table_rows, workbook_rows
from mm_adapter.eval.layouts.vlmevalkit import is_vlmevalkit, vlmevalkit_predictions
from mm_adapter.eval.record import Prediction

__all__ = ["read_predictions"]

Record = tuple[str, dict[str, Any]]
"""Place in the file, for messages, and what stands there."""


def read_predictions(path: Path, questions: Sequence[Question] = ()) -> list[Prediction]:
    """Return the predictions in ``path``, whichever layout it has: the content tells, not the name.

    The name counts in one case: of samples by lmms-eval it tells the task.

    Args:
        path: file of predictions.
        questions: what was asked, in the split's order. Layouts of written answers (LLaVA, lmms-eval, VLMEvalKit) need
            them to read choices, the others do not.

    Raises:
        UserError: the file is missing, unreadable or in no layout; names the line where there is one.
    """
    if is_workbook(path):
        return _of_table(path, list(workbook_rows(path)), questions)
    text = read_text(path)
    if is_table(text, "prediction"):
        return _of_table(path, list(table_rows(path, text)), questions)
    try:
        value = parse_json(text, str(path))
    except NotOneValue as error:
        return _of_records(path, list(objects_of_lines(path, text, str(error))), questions)
    if is_official(value):
        return official_predictions(path, value)
    samples = logged_samples(value)
    if samples is not None:
        return lmms_eval_predictions(_numbered(path, "sample", samples), questions, counts_pictures(path, value))
    if isinstance(value, list) and value:
        return _of_records(path, _numbered(path, "record", value), questions)
    if isinstance(value, dict) and "\n" in text.strip():
        return _of_records(path, [(str(path), value)], questions)
    return _of_records(path, list(objects_of_lines(path, text, "")), questions)


def _of_table(path: Path, rows: list[tuple[str, dict[str, str]]], questions: Sequence[Question]) -> list[Prediction]:
    if not rows:
        raise UserError(f"{path}: the table has no rows. {FORMATS}")
    return vlmevalkit_predictions(rows, questions)


def _of_records(path: Path, records: list[Record], questions: Sequence[Question]) -> list[Prediction]:
    where, first = records[0]
    if is_lmms_eval(first):
        return lmms_eval_predictions(records, questions, counts_pictures(path))
    if {"pid", "choice"} <= first.keys():
        return [own_prediction(where, fields) for where, fields in records]
    if is_llava(first) and "pid" not in first:
        by_pid = {question.pid: question for question in questions}
        return [llava_prediction(where, fields, by_pid) for where, fields in records]
    if is_vlmevalkit(first):
        return vlmevalkit_predictions(records, questions)
    raise UserError(f"{where}: there is no object with 'pid' and 'choice' here: {UNKNOWN} {FORMATS}")


def _numbered(path: Path, kind: str, values: Sequence[Any]) -> list[Record]:
    numbered = []
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise UserError(f"{path}, {kind} {number}: this is no object. {FORMATS}")
        numbered.append((f"{path}, {kind} {number}", value))
    return numbered
