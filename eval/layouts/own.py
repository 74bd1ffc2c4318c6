"""Our layout: one JSON object per line with the fields of ``Prediction``.

They are ``pid``, ``choice``, ``scores``, ``probabilities``, ``raw_text``, ``rule`` and ``explanation``; all but the
first two may be missing.
"""

from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.eval.layouts.json_text import FORMATS, prediction
from mm_adapter.eval.record import Prediction


def own_prediction(where: str, fields: dict[str, Any]) -> Prediction:
    """Return the prediction of one line.

    Raises:
        UserError: a field is missing, has the wrong type, or a value that no question allows.
    """
    if not {"pid", "choice"} <= fields.keys():
        raise UserError(f"{where}: there is no object with 'pid' and 'choice' here. {FORMATS}")
    return prediction(
        where,
        pid=fields["pid"],
        choice=fields["choice"],
        scores=_numbers(fields.get("scores"), "scores", where),
        probabilities=_numbers(fields.get("probabilities"), "probabilities", where),
        raw_text=fields.get("raw_text"),
        rule=fields.get("rule"),
        explanation=fields.get("explanation"),
    )


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
