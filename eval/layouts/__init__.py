"""Predictions of any system: four layouts, each read by a reader of its own; the content tells which one it is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.layouts.json_text import NotOneValue, objects_of_lines, parse_json, read_text
from mm_adapter.eval.layouts.llava_answers import is_llava, llava_prediction
from mm_adapter.eval.layouts.lmms_eval import is_lmms_eval, lmms_eval_predictions, logged_samples
from mm_adapter.eval.layouts.official_results import is_official, official_predictions
from mm_adapter.eval.layouts.own import own_prediction
from mm_adapter.eval.record import Prediction

__all__ = ["read_predictions"]


def read_predictions(path: Path, questions: Sequence[Question] = ()) -> list[Prediction]:
    """Return the predictions in ``path``, whichever layout it has: the content tells, not the name.

    Args:
        path: file of predictions.
        questions: what was asked, in the split's order. Layouts of written answers (LLaVA, lmms-eval) need them to read
            choices, the others do not.

    Raises:
        UserError: the file is missing, unreadable or in no layout; names the line where there is one.
    """
    text = read_text(path)
    try:
        value = parse_json(text, str(path))
    except NotOneValue as error:
        return _of_lines(path, text, questions, why_not_whole=str(error))
    if is_official(value):
        return official_predictions(path, value)
    samples = logged_samples(value)
    if samples is not None:
        return lmms_eval_predictions(_numbered(path, samples), questions)
    return _of_lines(path, text, questions, why_not_whole="")


def _of_lines(path: Path, text: str, questions: Sequence[Question], why_not_whole: str) -> list[Prediction]:
    lines = list(objects_of_lines(path, text, why_not_whole))
    first = lines[0][1]
    if is_lmms_eval(first):
        return lmms_eval_predictions(lines, questions)
    read: Callable[[str, dict[str, Any]], Prediction] = own_prediction
    if is_llava(first) and "pid" not in first:
        by_pid = {question.pid: question for question in questions}

        def read(where: str, fields: dict[str, Any]) -> Prediction:
            return llava_prediction(where, fields, by_pid)

    return [read(where, fields) for where, fields in lines]


def _numbered(path: Path, samples: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    numbered = []
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict):
            raise UserError(f"{path}, sample {number}: this is no object. Samples of lmms-eval are.")
        numbered.append((f"{path}, sample {number}", sample))
    return numbered
