"""Whether predictions answer the questions that they should, and with values that mean something."""

import math
import reprlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.record import UNREADABLE, Prediction

_NAMED_IN_MESSAGES = 5
_SUM_TOLERANCE = 1e-3  # half precision


def first_few(pids: Sequence[str]) -> str:
    """Return the first pids, quoted, and how many more there are: ``'4', '5' and 12 more``."""
    named = ", ".join(shortened(pid) for pid in pids[:_NAMED_IN_MESSAGES])
    rest = len(pids) - _NAMED_IN_MESSAGES
    return f"{named} and {rest} more" if rest > 0 else named


def check_values(prediction: Prediction, where: str) -> None:
    """Refuse values that no question allows.

    Raises:
        UserError: the choice is not an integer from -1 up, a score or probability is not a finite number, or the
            probabilities do not sum to 1.
    """
    choice = prediction.choice
    # True is an int to Python, and would silently choose the second option.
    if isinstance(choice, bool) or not isinstance(choice, int) or choice < UNREADABLE:
        raise UserError(
            f"{where}: the choice of question {shortened(prediction.pid)} is {shortened(choice)}. "
            "Give the option's index, counted from 0, or -1 for an answer that could not be read."
        )
    for name, values in (("score", prediction.scores), ("probability", prediction.probabilities)):
        for value in values:
            if not math.isfinite(value):
                raise UserError(
                    f"{where}: question {shortened(prediction.pid)} has a {name} that is not finite ({value}). "
                    "Look for overflow in the model that wrote it (float32 is safe) and predict again."
                )
    total = sum(prediction.probabilities)
    if prediction.probabilities and (min(prediction.probabilities) < 0 or abs(total - 1) > _SUM_TOLERANCE):
        raise UserError(
            f"{where}: the probabilities of question {shortened(prediction.pid)} do not share out 1: they sum to "
            f"{total:.6g}, the least is {min(prediction.probabilities):.3g}. Give each option's share of 1, or scores."
        )


def check_predictions(
    predictions: Iterable[Prediction],
    questions: Sequence[Question],
    source: str,
    missing_allowed: Collection[str] = (),
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Make sure that ``predictions`` answer exactly ``questions``, each once and with an option that is there.

    Args:
        predictions: what is checked.
        questions: what should have been answered.
        source: where the predictions come from, for the message: usually the file.
        missing_allowed: pids that need no prediction and may have one all the same, such as skipped questions.
        elsewhere: pid -> split, of the dataset's other questions, so that mixed-up splits are told as such.

    Raises:
        UserError: a question has no prediction or two, a prediction names an unknown question, a choice is not an
            integer from -1 to the last option, a score is not finite, or there are not as many scores as options.
    """
    options = {question.pid: len(question.options) for question in questions}
    seen: dict[str, int] = {}
    unknown: list[str] = []
    for prediction in predictions:
        check_values(prediction, source)
        pid = prediction.pid
        if pid in seen:
            alike = "alike" if seen[pid] == prediction.choice else "with different answers"
            raise UserError(
                f"{source}: question {shortened(pid)} is predicted twice, {alike}. Keep one prediction per question."
            )
        seen[pid] = prediction.choice
        if pid in options:
            _check_range(prediction, options[pid], source)
        elif pid not in missing_allowed:
            unknown.append(pid)
    if unknown:
        raise UserError(
            f"{source}: {len(unknown)} of {len(seen)} predicted questions are not among those to score: "
            f"{first_few(unknown)}{_other_splits(unknown, elsewhere or {})}. "
            "Check that --data and --split are the ones the predictions were made for."
        )
    missing = [pid for pid in options if pid not in seen and pid not in missing_allowed]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of {len(options)} questions have no prediction: {first_few(missing)}. "
            "Predict every question of the split; write -1 where an answer could not be read."
        )


def _other_splits(pids: Sequence[str], elsewhere: Mapping[str, str]) -> str:
    counts = Counter(elsewhere[pid] for pid in pids if pid in elsewhere)
    return "".join(f"; {count} of them in split {shortened(split)}" for split, count in counts.most_common())


def _check_range(prediction: Prediction, options: int, source: str) -> None:
    pid, choice = shortened(prediction.pid), shortened(prediction.choice)
    if prediction.choice >= options:
        raise UserError(
            f"{source}: question {pid} has {options} options, but option {choice} is chosen (counted from 0). "
            f"Choose 0 to {options - 1}, or -1 for an answer that could not be read."
        )
    for name, values in (("scores", prediction.scores), ("probabilities", prediction.probabilities)):
        if values and len(values) != options:
            raise UserError(
                f"{source}: question {pid} has {options} options but {len(values)} {name}. Give one per option or none."
            )


def shortened(value: object) -> str:
    """Return ``repr(value)``, cut to a length that fits into a message, whatever the value is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits has no repr
        return "a huge number"
