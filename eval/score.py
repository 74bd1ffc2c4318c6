"""From a file of predictions to its figures: what ``mm-adapter score`` prints."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data.question import Question
from eval.metrics import Metrics, evaluate_predictions
from eval.predictions import read_predictions


def score_file(
    predictions_file: Path, questions: Sequence[Question], skipped: Mapping[str, str] | None = None
) -> Metrics:
    """Return the metrics of ``predictions_file``, in either format, on ``questions``.

    Args:
        predictions_file: JSON lines or the official result format.
        questions: what should have been answered, usually one split.
        skipped: pid -> reason of the split's bad questions; they count as wrong, predicted or not.

    Raises:
        UserError: the file cannot be read, or its predictions do not fit the questions.
    """
    return evaluate_predictions(read_predictions(predictions_file), questions, skipped, source=str(predictions_file))
