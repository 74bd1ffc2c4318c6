"""Write predictions: one JSON object per line, or the official ScienceQA result format (see ``eval.layouts``)."""

import json
from collections.abc import Iterable
from pathlib import Path

from mm_adapter.core.files import write_text
from mm_adapter.data.templates import BECAUSE, LETTERS
from mm_adapter.eval.checks import check_predictions, check_values
from mm_adapter.eval.layouts import read_predictions
from mm_adapter.eval.record import UNREADABLE, Prediction

__all__ = [
    "UNREADABLE",
    "Prediction",
    "check_predictions",
    "read_predictions",
    "write_official",
    "write_predictions",
]


def write_predictions(path: str | Path, predictions: Iterable[Prediction]) -> None:
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
        if prediction.rule:
            fields["rule"] = prediction.rule
        if prediction.explanation:
            fields["explanation"] = prediction.explanation
        # ASCII, because a model's raw text may hold half a surrogate pair, which UTF-8 cannot carry.
        lines.append(json.dumps(fields, ensure_ascii=True, allow_nan=False) + "\n")
    write_text(Path(path), "".join(lines))


def write_official(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write ``predictions`` to ``path`` atomically in the official result format; scores are left out.

    A choice with an explanation becomes "The answer is B. BECAUSE: ...", as in the official files.

    Raises:
        UserError: a value is not allowed (`check_values`), or the file cannot be written.
    """
    results: dict[str, int] = {}
    outputs: dict[str, str] = {}
    for prediction in predictions:
        check_values(prediction, str(path))
        results[prediction.pid] = prediction.choice
        outputs[prediction.pid] = _official_text(prediction)
    write_text(path, json.dumps({"results": results, "outputs": outputs}, indent=2, ensure_ascii=True) + "\n")


def _official_text(prediction: Prediction) -> str:
    if not prediction.explanation or not 0 <= prediction.choice < len(LETTERS):
        return prediction.raw_text
    return f"The answer is {LETTERS[prediction.choice]}.{BECAUSE} {prediction.explanation}"
