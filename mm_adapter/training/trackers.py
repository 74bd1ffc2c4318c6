"""A run told to TensorBoard, Trackio or Weights & Biases as it goes; imported where a run is to be told to one of them.

What is trained does not depend on it: trackers read events and weights, and one that fails is left out of the rest.
"""

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.finetune import FinetunedWeights
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, write_json
from mm_adapter.training.checked import check_trackers, tracker_names
from mm_adapter.training.config import TrainingConfig

ID_FILE = "trackers.json"
_PROJECT = "mm-adapter"


class Tracker(Protocol):
    """A program that shows runs."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of an optimiser step."""
        ...

    def close(self) -> None:
        """Keep what is not kept yet."""
        ...


class TensorBoard:
    """Event files in ``tensorboard/`` of the run folder; what a resumed run repeats is taken out there.

    Args:
        folder: of the run.
        step: that the run goes on from, 0 at its beginning.
        settings: of the run.
    """

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any], _name: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        if not step:
            rows = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
            self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}", 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step, each as a scalar."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is held back."""
        self._writer.close()


class Trackio:
    """A run of the project ``mm-adapter`` where Trackio keeps its own: ``TRACKIO_DIR``, or its cache folder.

    Args:
        name: of the run; one that is there already is gone on with.
        settings: of the run.
    """

    def __init__(self, _folder: Path, step: int, settings: Mapping[str, Any], name: str) -> None:
        import trackio

        more: dict[str, Any] = {
            "resume": "allow" if step else "never",
            "embed": False,
            "auto_log_gpu": False,
            "auto_log_cpu": False,
        }
        self._run = trackio.init(_PROJECT, name=name, config=dict(settings), **more)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until everything is in its database."""
        import trackio

        trackio.finish()  # of the module, not of the run: it would be ended once more as the program ends


class WeightsAndBiases:
    """A run of W&B, in the project ``mm-adapter`` or ``WANDB_PROJECT``; its files lie in ``wandb/`` of the run folder.

    Args:
        folder: of the run.
        name: of the run and its id; one that is there already is gone on with.
        settings: of the run.
    """

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any], name: str) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=name,
            id=name,
            dir=str(folder),
            config=dict(settings),
            resume="allow" if step else None,
            # Our own lines are for whoever started the run.
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step, beside its number: steps that a resumed run repeats are taken too."""
        self._run.log({"step": step, **values})

    def close(self) -> None:
        """Wait until everything is uploaded, or written where it is offline."""
        self._run.finish()


_KINDS: dict[str, Callable[[Path, int, Mapping[str, Any], str], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
}


class Trackers:
    """All trackers of a run.

    Args:
        config: settings of the run, which name them.
        folder: of the run.
        trained: whose gates are told.
        optimizer: whose learning rates are told, one group for each kind of parameter.
        step: that the run goes on from, 0 at its beginning.

    Raises:
        UserError: one is not installed or cannot be opened.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        trained: Adapter | FinetunedWeights,
        optimizer: torch.optim.Optimizer,
        step: int = 0,
    ) -> None:
        check_trackers(config.log_to)
        self._trained, self._optimizer = trained, optimizer
        groups = trained.parameter_groups().items()
        self._kinds = [kind for kind, members in groups if any(parameter.requires_grad for parameter in members)]
        name = _run_name(folder, step)
        self._open: dict[str, Tracker] = {}
        for kind in tracker_names(config.log_to):
            try:
                with _aside():
                    self._open[kind] = _KINDS[kind](folder, step, config.to_json(), name)
            except Exception as error:  # each program has errors of its own: no login, no network, a damaged file
                raise UserError(
                    f"log_to {kind}: cannot be opened ({_reason(error)}). Mend it, or leave it out."
                ) from error

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event of ``metrics.jsonl``."""
        values = self._of_validation(event) if "val_loss" in event else self._of_step(event)
        self._each(lambda tracker: tracker.log(event["step"], values))

    def close(self) -> None:
        """Let every tracker keep what it has."""
        self._each(lambda tracker: tracker.close())
        self._open.clear()

    def _of_step(self, event: Mapping[str, Any]) -> dict[str, float]:
        values = {
            "train/loss": event["loss"],
            "train/epoch": event["epoch"],
            "throughput/questions_per_second": event["questions_per_second"],
        }
        if "idle" in event:
            values["throughput/idle"] = event["idle"]
        groups = zip(self._kinds, self._optimizer.param_groups, strict=True)
        values |= {f"lr/{kind.replace(' ', '_')}": group["lr"] for kind, group in groups}
        return values | gate_openings(self._trained)

    def _of_validation(self, event: Mapping[str, Any]) -> dict[str, float]:
        found = {"validation/loss": event["val_loss"], "validation/best": float(event["best"])}
        return found | ({"validation/accuracy": event["val_accuracy"]} if "val_accuracy" in event else {})

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for kind, tracker in list(self._open.items()):
            try:
                with _aside():
                    do(tracker)
            except Exception as error:  # hours of training are worth more than their picture
                del self._open[kind]
                print(f"{kind} failed and is told no more ({_reason(error)}); the training goes on", file=sys.stderr)


def gate_openings(trained: Adapter | FinetunedWeights) -> dict[str, float]:
    """Return how far the gates of every adapted layer are open: the mean over heads of ``|tanh(gate)|``.

    Returns:
        By name, such as ``gates/layer_17`` (counted from 0, as in the model); empty where nothing is gated.
    """
    if not isinstance(trained, Adapter):
        return {}
    found: dict[str, float] = {}
    for name, gates in (("gates", trained.gates), ("image_gates", trained.image_gates)):
        if gates is not None:
            opened = gates.detach().tanh() if trained.config.gate_activation == "tanh" else gates.detach()  # (L, H)
            means = opened.abs().mean(dim=1).tolist()
            found |= {f"{name}/layer_{trained.first_layer + place}": mean for place, mean in enumerate(means)}
    return found


def _run_name(folder: Path, step: int) -> str:
    """Return the name of a run among all others: the folder's, and what tells it from another one of that name."""
    path = folder / ID_FILE
    if step and path.is_file():
        kept = read_json(path, "name of the run in trackers")
        if isinstance(kept, dict) and isinstance(kept.get("name"), str):
            return str(kept["name"])
    name = f"{folder.resolve().name}-{uuid.uuid4().hex[:8]}"
    write_json(path, {"name": name})
    return name


def _aside() -> contextlib.AbstractContextManager[Any]:
    """What other programs print goes beside the results, not among them."""
    return contextlib.redirect_stdout(sys.stderr)


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
