"""Metrics of a run as JSON lines, and the curve drawn from them."""

import json
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically, write_text

METRICS_FILE, CURVE_FILE = "metrics.jsonl", "curve.png"


class MetricsLog:
    """Appends one JSON object per event to ``metrics.jsonl``.

    Args:
        folder: of the run; None to write nothing, as the ranks do that are not the first.
        keep_steps: events of later steps are dropped first: a resumed run repeats them.
        keep_evaluations: the same for evaluations of the validation split; by default as ``keep_steps``.
    """

    def __init__(self, folder: Path | None, keep_steps: int = 0, keep_evaluations: int | None = None) -> None:
        self.events: list[dict[str, Any]] = []
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
