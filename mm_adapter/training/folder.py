"""The folder of a run: how a run begins in it, and the metrics and curve that it leaves there."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mm_adapter.adapter.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import delete_leftovers, read_json, write_atomically, write_text
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.state import check_settings, delete_states, has_whole_state, load_state, state_files

METRICS_FILE, CURVE_FILE = "metrics.jsonl", "curve.png"
RUN_FILE = "run.json"
_WRITTEN = (WEIGHTS_FILE, CONFIG_FILE, METRICS_FILE, CURVE_FILE, RUN_FILE, "config.json")


@dataclass(frozen=True)
class Start:
    """How a run begins: from a state or not, or not at all where its result is there."""

    resume: bool
    result: dict[str, Any] | None = None


def check_start(out: Path, resume: str, config: TrainingConfig) -> Start:
    """Return how a run would begin in a folder; nothing is written.

    Args:
        out: run folder, which need not be there.
        resume: ``must``, ``auto`` or ``no``.
        config: settings.

    Raises:
        UserError: it could not, or only over what another run has left.
    """
    states = state_files(out)
    finished = (out / RUN_FILE).is_file()
    if resume == "must":
        if finished and not states:
            raise UserError(f"{out}: this run has come to its end already; choose another --out for another one.")
        if not has_whole_state(out):
            load_state(out, config.to_json())  # says why there is none
        _check_saved(out, config)
        return Start(True)
    if resume == "no":
        if finished:
            raise UserError(f"{out}: holds a run already, which has come to its end; choose another --out.")
        if (out / CONFIG_FILE).exists() or states:
            raise UserError(f"{out}: holds a run already; choose another --out, or go on with it by --resume.")
        return Start(False)
    if finished:
        _check_saved(out, config, needed=True)
        return Start(False, read_json(out / RUN_FILE, "result of the run"))
    if (out / CONFIG_FILE).exists() and not (out / METRICS_FILE).exists():
        raise UserError(
            f"{out}: holds an adapter that was not trained here, which a new run would replace; choose another --out."
        )
    whole = has_whole_state(out)
    if whole:
        _check_saved(out, config)
    return Start(whole)


def _check_saved(out: Path, config: TrainingConfig, needed: bool = False) -> None:
    path = out / "config.json"
    if needed or path.is_file():
        check_settings(path, read_json(path, "settings of the run"), config.to_json())


def start(out: Path, resume: str, config: TrainingConfig, log: Callable[[str], None]) -> Start:
    """Return how a run begins, and clear away what others that were killed have left.

    Raises:
        UserError: as ``check_start``.
    """
    found = check_start(out, resume, config)
    if found.result is not None:
        log(f"{out}: this run has come to its end already")
    elif resume != "no":
        delete_leftovers(out, _WRITTEN)
        if not found.resume and state_files(out):
            log(f"{out}: no state of this run is whole; it begins anew")
            delete_states(out)
    return found


class Follower(Protocol):
    """Whoever is told each event of a run as it is recorded."""

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event."""
        ...

    def close(self) -> None:
        """Keep what was taken."""
        ...


class MetricsLog:
    """Appends one JSON object per event to ``metrics.jsonl``.

    Args:
        folder: of the run; None to write nothing, as the ranks do that are not the first.
        keep_steps: events of later steps are dropped first: a resumed run repeats them.
        keep_evaluations: the same for evaluations of the validation split; by default as ``keep_steps``.

    Attributes:
        followers: are told every further event.
    """

    def __init__(self, folder: Path | None, keep_steps: int = 0, keep_evaluations: int | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.followers: list[Follower] = []
        self.path = None if folder is None else folder / METRICS_FILE
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if keep_steps and self.path.is_file():
            events = [_parse(line) for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines()]
            last_evaluation = keep_steps if keep_evaluations is None else keep_evaluations
            self.events = [
                event
                for event in events
                if event.get("step", keep_steps + 1) <= (last_evaluation if "val_loss" in event else keep_steps)
            ]
        write_text(self.path, "".join(json.dumps(event) + "\n" for event in self.events))

    def add(self, **event: Any) -> None:
        """Record one event.

        Raises:
            UserError: the file cannot be written.
        """
        self.events.append(event)
        if self.path is None:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror or error}). Free some space; the last saved state "
                "is kept, go on with --resume."
            ) from error
        for follower in self.followers:
            follower(event)

    def end(self) -> None:
        """Let whoever follows the log keep what they have, and draw the curve."""
        for follower in self.followers:
            follower.close()
        self.draw()

    def draw(self) -> None:
        """Write ``curve.png``: loss of training and validation, validation accuracy, by step."""
        if self.path is None:
            return
        # Imported here: a training step needs no plotting library, and it takes a second to load.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        for key, label in (("loss", "training"), ("val_loss", "validation, ranking")):
            points = [(event["step"], event[key]) for event in self.events if key in event]
            left.plot(*zip(*points, strict=True) if points else ([], []), label=label)
        points = [(event["step"], event["val_accuracy"]) for event in self.events if "val_accuracy" in event]
        right.plot(*zip(*points, strict=True) if points else ([], []), marker="o")
        left.set(xlabel="step", ylabel="loss")
        left.legend()
        right.set(xlabel="step", ylabel="validation accuracy, %")
        write_atomically(self.path.with_name(CURVE_FILE), lambda path: figure.savefig(path, format="png", dpi=110))


def _parse(line: str) -> dict[str, Any]:
    # A process that was killed may have left half a line: it says nothing, and is dropped.
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) and isinstance(event.get("step"), int) else {}
