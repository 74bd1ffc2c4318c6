"""JSON of unknown origin as values, with messages that name file and line."""

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.eval.checks import check_values, shortened
from mm_adapter.eval.record import Prediction

FORMATS = (
    "Predictions are one JSON object with 'pid' and 'choice' per line or in a list, an official result file, LLaVA's "
    "answers, samples logged by lmms-eval, or VLMEvalKit's table (tsv, xlsx)."
)
UNKNOWN = "valid JSON, in no known layout."
# The longer marks first: UTF-32's begins with UTF-16's.
_MARKED = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NotOneValue(Exception):
    """The text as a whole is not one JSON value; its lines may be."""


def read_text(path: Path) -> str:
    """Return the text of a file of predictions: UTF-8, or UTF-16 or UTF-32 that its byte-order mark tells.

    Raises:
        UserError: it is missing, unreadable, in another encoding or empty.
    """
    try:
        data = path.read_bytes()
        encoding = next((encoding for mark, encoding in _MARKED if data.startswith(mark)), "utf-8-sig")
        text = data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise UserError(f"{path}: the predictions file does not exist. Check the path.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: the predictions file is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8. "
            f"{FORMATS}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: the predictions file cannot be read ({reason}).") from None
    if not text.strip():
        raise UserError(f"{path}: the predictions file is empty. {FORMATS}")
    return text


def parse_json(text: str, where: str) -> Any:
    """Return the JSON value of ``text``.

    Raises:
        NotOneValue: it is not JSON.
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
        raise NotOneValue(str(error)) from None
    except RecursionError:
        raise UserError(f"{where}: the JSON is nested too deeply. {FORMATS}") from None
    except ValueError as error:
        raise UserError(f"{where}: the JSON cannot be read ({error}). {FORMATS}") from None


def objects_of_lines(path: Path, text: str, why_not_whole: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(place, object)`` for every line that is not empty; ``why_not_whole`` is for damaged files of one value.

    Raises:
        UserError: a line is not a JSON object.
    """
    begun = False
    # Not splitlines(): that also breaks at characters which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removeprefix("\ufeff")  # files that were joined have a byte-order mark in the middle
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            fields = parse_json(line, where)
        except NotOneValue as error:
            # A first line that is no JSON is more likely the beginning of a damaged official file.
            place, reason = (where, error) if begun else (path, why_not_whole)
            raise UserError(f"{place}: this is not JSON ({reason}). {FORMATS}") from None
        if not isinstance(fields, dict):
            raise UserError(f"{where}: there is no object with 'pid' and 'choice' here: {UNKNOWN} {FORMATS}")
        begun = True
        yield where, fields


def prediction(
    where: str,
    pid: Any,
    choice: Any,
    scores: tuple[float, ...] = (),
    probabilities: tuple[float, ...] = (),
    raw_text: Any = None,
    rule: Any = None,
    explanation: Any = None,
    tool: str = "",
) -> Prediction:
    """Return the prediction made of values of unknown types.

    Raises:
        UserError: a value has the wrong type or is not allowed (``mm_adapter.eval.checks.check_values``).
    """
    if not isinstance(pid, str):
        raise UserError(f"{where}: the pid {shortened(pid)} is not text. Write it in quotes, as in problems.json.")
    for name, value in (("raw text", raw_text), ("rule", rule), ("explanation", explanation)):
        if not isinstance(value, str | None):
            raise UserError(
                f"{where}: the {name} of question {shortened(pid)} is not text. Write a string or leave it out."
            )
    found = Prediction(pid, choice, scores, probabilities, raw_text or "", rule or "", explanation or "", tool)
    check_values(found, where)
    return found
