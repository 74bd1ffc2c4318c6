"""Files of predictions: one JSON object per line, or the official ScienceQA result format.

A line holds ``pid``, ``choice``, ``scores``, ``probabilities`` and ``raw_text``; the last three may be missing. The
official format (github.com/lupantech/ScienceQA, ``results/``) is one JSON object: ``results`` maps a pid to the chosen
index, and ``outputs``, which may be missing, a pid to the raw text; it has no place for scores.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.checks import check_predictions, check_values, shortened
from eval.record import UNREADABLE, Prediction
from mm_adapter.errors import UserError
from mm_adapter.files import write_text

__all__ = [
    "UNREADABLE",
    "Prediction",
    "check_predictions",
    "read_predictions",
    "write_official",
    "write_predictions",
]

_FORMATS = "A predictions file has one JSON object with 'pid' and 'choice' per line, or is an official result file."


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``predictions`` to ``path`` atomically, one JSON object per line; the same predictions give the same bytes.

    Floats are written so that they read back exactly.

    Raises:
        UserError: a value is not allowed (`check_values`), or the file cannot be written.
    """
    lines = []
    for prediction in predictions:
        check_values(prediction, str(path))
        fields = {
            "pid": prediction.pid,
            "choice": prediction.choice,
            "scores": [float(score) for score in prediction.scores],
            "probabilities": [float(probability) for probability in prediction.probabilities],
            "raw_text": prediction.raw_text,
        }
        # ASCII, because a model's raw text may hold half a surrogate pair, which UTF-8 cannot carry.
        lines.append(json.dumps(fields, ensure_ascii=True, allow_nan=False) + "\n")
    write_text(path, "".join(lines))


def write_official(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``predictions`` to ``path`` atomically in the official result format; scores are left out.

    Raises:
        UserError: a value is not allowed (`check_values`), or the file cannot be written.
    """
    results: dict[str, int] = {}
    outputs: dict[str, str] = {}
    for prediction in predictions:
        check_values(prediction, str(path))
        results[prediction.pid] = prediction.choice
        outputs[prediction.pid] = prediction.raw_text
    write_text(path, json.dumps({"results": results, "outputs": outputs}, indent=2, ensure_ascii=True) + "\n")


def read_predictions(path: Path) -> list[Prediction]:
    """Return the predictions in ``path``, whichever of the two formats it has: the content tells, not the name.

    Raises:
        UserError: the file is missing, unreadable or in neither format; names the line where there is one.
    """
    text = _read_text(path)
    if not text.strip():
        raise UserError(f"{path}: the predictions file is empty. {_FORMATS}")
    try:
        value = _parse(text, str(path))
    except _NotOneValue as error:
        return _read_lines(path, text, why_not_whole=str(error))
    if isinstance(value, dict) and "results" in value and "pid" not in value:
        return _read_official(path, value)
    return _read_lines(path, text, why_not_whole="")


class _NotOneValue(Exception):
    """The text as a whole is not one JSON value; its lines may be."""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: the predictions file does not exist. Check the path.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the predictions file is not UTF-8 text ({error.reason}). {_FORMATS}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: the predictions file cannot be read ({reason}).") from None


def _parse(text: str, where: str) -> Any:
    """Return the JSON value of ``text``.

    Raises:
        _NotOneValue: it is not JSON.
        UserError: it is JSON that no honest file holds: a key twice in one object, nesting or numbers without end.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise UserError(
                f"{where}: {shortened(twice)} stands twice in one object. Keep one prediction per question."
            )
        return fields

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _NotOneValue(str(error)) from None
    except RecursionError:
        raise UserError(f"{where}: the JSON is nested too deeply. {_FORMATS}") from None
    except ValueError as error:
        raise UserError(f"{where}: the JSON cannot be read ({error}). {_FORMATS}") from None


def _read_lines(path: Path, text: str, why_not_whole: str) -> list[Prediction]:
    predictions: list[Prediction] = []
    # Not splitlines(): that also breaks at characters which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            fields = _parse(line, where)
        except _NotOneValue as error:
            # A first line that is no JSON is more likely the beginning of a damaged official file.
            place, reason = (where, error) if predictions else (path, why_not_whole)
            raise UserError(f"{place}: this is not JSON ({reason}). {_FORMATS}") from None
        if not isinstance(fields, dict) or not {"pid", "choice"} <= fields.keys():
            raise UserError(f"{where}: there is no object with 'pid' and 'choice' here. {_FORMATS}")
        predictions.append(
            _prediction(
                where,
                pid=fields["pid"],
                choice=fields["choice"],
                scores=_numbers(fields.get("scores"), "scores", where),
                probabilities=_numbers(fields.get("probabilities"), "probabilities", where),
                raw_text=fields.get("raw_text"),
            )
        )
    return predictions


def _read_official(path: Path, value: dict[str, Any]) -> list[Prediction]:
    results, outputs = value["results"], value.get("outputs")
    if not isinstance(results, dict) or not isinstance({} if outputs is None else outputs, dict):
        raise UserError(f"{path}: 'results' and 'outputs' must be objects that map a pid to a value. {_FORMATS}")
    if not results:
        raise UserError(f"{path}: 'results' is empty. {_FORMATS}")
    texts = outputs or {}
    return [_prediction(str(path), pid, choice, raw_text=texts.get(pid)) for pid, choice in results.items()]


def _prediction(
    where: str,
    pid: Any,
    choice: Any,
    scores: tuple[float, ...] = (),
    probabilities: tuple[float, ...] = (),
    raw_text: Any = None,
) -> Prediction:
    """Return the prediction made of values of unknown types, or raise `UserError`."""
    if not isinstance(pid, str):
        raise UserError(f"{where}: the pid {shortened(pid)} is not text. Write it in quotes, as in problems.json.")
    if not isinstance(raw_text, str | None):
        raise UserError(
            f"{where}: the raw text of question {shortened(pid)} is not text. Write a string or leave it out."
        )
    prediction = Prediction(pid, choice, scores, probabilities, raw_text or "")
    check_values(prediction, where)
    return prediction


def _numbers(values: Any, name: str, where: str) -> tuple[float, ...]:
    if values is None:
        return ()
    if isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    ):
        try:
            return tuple(float(value) for value in values)
        except OverflowError:
            pass
    raise UserError(f"{where}: {name!r} is not a list of numbers. Write one number per option, or leave it out.")
