"""What one run of a grid came to, as it lies in its folder."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, write_json
from mm_adapter.training.checked import with_new_names
from mm_adapter.training.folder import METRICS_FILE
from mm_adapter.training.state import check_settings

RESULT_FILE = "result.json"
SEED = "seed"


@dataclass(frozen=True)
class PointResult:
    """Figures of one run.

    Attributes:
        name: of the point.
        values: key of the grid -> value.
        config: all settings of the run.
        split: whose questions were answered.
        accuracy: the official evaluator's keys -> percent, by the weights that validated best; None where no question
            counts.
        train_loss: mean over the steps of the last epoch.
        val_loss: ranking loss on the validation questions at the end.
        val_accuracy: percent of the validation questions right at the end, whichever weights were kept.
        trained_parameters: how many numbers were trained.
        train_seconds: of training, evaluations of the validation questions among them.
        seconds: with answering the split.
    """

    name: str
    values: Mapping[str, Any]
    config: Mapping[str, Any]
    split: str
    accuracy: Mapping[str, float | None]
    train_loss: float
    val_loss: float
    val_accuracy: float
    trained_parameters: int
    train_seconds: float
    seconds: float

    @property
    def average(self) -> float:
        """Accuracy over all questions, percent."""
        return self.accuracy["acc_average"] or 0.0

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.config[SEED])

    @property
    def setting(self) -> dict[str, Any]:
        """The values that say what was tried: all but the seed."""
        return {key: value for key, value in self.values.items() if key != SEED}

    def write(self, folder: Path) -> None:
        """Write ``result.json`` into ``folder`` atomically."""
        write_json(folder / RESULT_FILE, asdict(self))


def read_result(folder: Path, config: Mapping[str, Any]) -> PointResult | None:
    """Return the result in ``folder``; None where there is none, or none that is whole.

    Raises:
        UserError: it was made with other settings than ``config``.
    """
    path = folder / RESULT_FILE
    try:
        content = read_json(path, "result")
        result = PointResult(**{field.name: content[field.name] for field in fields(PointResult)})
        result = replace(result, values=with_new_names(result.values))
        numbers = (result.average, result.train_loss, result.val_loss, result.val_accuracy, result.seconds)
        whole = all(map(math.isfinite, numbers))
    except (UserError, TypeError, KeyError, AttributeError):
        return None
    check_settings(path, dict(result.config), dict(config))
    return result if whole else None


def last_losses(folder: Path) -> tuple[float, float, float]:
    """Return train loss (mean over the last epoch), validation loss and accuracy at the end, from a run's log.

    Raises:
        UserError: the log is not that of a run to its end, or a loss is not finite.
    """
    path = folder / METRICS_FILE
    try:
        events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete the run's folder to train it again.") from error
    evaluations = [event for event in events if "val_loss" in event]
    steps = [event for event in events if "loss" in event and "skipped" not in event]
    if not evaluations or not steps:
        raise UserError(
            f"{path}: has no evaluation of the validation questions; delete the run's folder to train it again."
        )
    last = steps[-1]["epoch"]
    # An epoch that is not whole at the end still has a whole one behind it.
    losses = [event["loss"] for event in steps if event["epoch"] > last - 1]
    found = (sum(losses) / len(losses), evaluations[-1]["val_loss"], evaluations[-1]["val_accuracy"])
    if not all(map(math.isfinite, found)):
        raise UserError(f"{path}: the loss is not finite at the end; lower base_lr.")
    return found
