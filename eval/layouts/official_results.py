"""The official result format (github.com/lupantech/ScienceQA, ``results/``): one JSON object.

``results`` maps a pid to the chosen index, ``outputs``, which may be missing, a pid to the raw text.
"""

from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.eval.layouts.json_text import FORMATS, prediction
from mm_adapter.eval.record import Prediction


def is_official(value: Any) -> bool:
    """Say whether a JSON value is an official result file."""
    return isinstance(value, dict) and "results" in value and "pid" not in value


def official_predictions(path: Path, value: dict[str, Any]) -> list[Prediction]:
    """Return the predictions of an official result file.

    Raises:
        UserError: it is not as the format says, or empty.
    """
    results, outputs = value["results"], value.get("outputs")
    if not isinstance(results, dict) or not isinstance({} if outputs is None else outputs, dict):
        raise UserError(f"{path}: 'results' and 'outputs' must be objects that map a pid to a value. {FORMATS}")
    if not results:
        raise UserError(f"{path}: 'results' is empty. {FORMATS}")
    texts = outputs or {}
    return [prediction(str(path), pid, choice, raw_text=texts.get(pid)) for pid, choice in results.items()]
