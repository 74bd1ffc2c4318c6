"""What a training run will take, before anything is loaded."""

from dataclasses import dataclass
from typing import Any

from mm_adapter.planning.devices import find_device
from mm_adapter.planning.fitting import Suggestion, largest_pass, suggest
from mm_adapter.planning.image_costs import tower_shape
from mm_adapter.planning.measurement import Measurement, measure, short_run
from mm_adapter.planning.plan import Plan, make_plan
from mm_adapter.planning.plan_text import compared, comparison, to_text
from mm_adapter.planning.shapes import open_shape
from mm_adapter.planning.workload import make_workload
from mm_adapter.training.config import TrainingConfig


@dataclass(frozen=True)
class Comparison:
    """A short real run and its plan."""

    plan: Plan
    measured: Measurement


@dataclass(frozen=True)
class PlanReport:
    """What the command found.

    Attributes:
        plan: of the run.
        largest: questions of the largest pass that fits a device; 0 where none does.
        suggestions: settings that would make it fit; empty where it fits.
        compared: a short real run, where one was asked for.
    """

    plan: Plan
    largest: int
    suggestions: list[Suggestion]
    compared: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """Return all of it for programs."""
        suggested = [{"changes": item.changes, "peak_memory": item.plan.memory.peak} for item in self.suggestions]
        found = {**self.plan.to_json(), "largest_pass": self.largest, "suggestions": suggested}
        if self.compared is not None:
            rows = compared(self.compared.plan, self.compared.measured)
            found["measured"] = {name: {"planned": planned, "measured": real} for name, planned, real in rows}
        return found

    def to_text(self) -> str:
        """Return all of it for people."""
        text = to_text(self.plan, self.largest, self.suggestions)
        return text if self.compared is None else f"{text}\n\n{comparison(self.compared.plan, self.compared.measured)}"


def plan(
    config: TrainingConfig,
    ranks: int = 1,
    questions: int | None = None,
    question_tokens: int | None = None,
    answer_tokens: int | None = None,
    image_features: int | None = None,
    utilisation: float | None = None,
    memory: float | None = None,
    measured: bool = False,
) -> PlanReport:
    """Plan a run: ``config.device`` is a kind of device, ``config.llama`` a model or the name of a shape.

    Args:
        ranks: devices, one each; they share the questions of a step.
        questions, question_tokens, answer_tokens: see ``make_workload``.
        image_features: width of the image features, where the tower's configuration does not tell.
        utilisation: share of the device's rate that is reached.
        memory: gigabytes of a device.
        measured: run a few steps as well.

    Raises:
        UserError: bad settings, or a name that stands for nothing.
    """
    device = find_device(config.device, memory)
    load = make_workload(config, ranks, questions, question_tokens, answer_tokens)
    base = open_shape(config.llama)
    found = make_plan(base, config, device, load, tower_shape(config, image_features), ranks, utilisation)
    run = None
    if measured:
        run = Comparison(brief := short_run(found), measure(brief))
    return PlanReport(found, largest_pass(found), suggest(found), run)
