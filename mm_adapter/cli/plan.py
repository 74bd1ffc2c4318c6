"""``mm-adapter plan``: what a training run will take, before anything is loaded."""

import argparse
import json
from dataclasses import dataclass
from typing import Any

from mm_adapter.cli.config_options import add_config_options, overrides
from mm_adapter.cli.parser import add_command, positive
from mm_adapter.planning.devices import find_device
from mm_adapter.planning.fitting import Suggestion, largest_pass, suggest
from mm_adapter.planning.image_costs import tower_shape
from mm_adapter.planning.measurement import Measurement, measure, short_run
from mm_adapter.planning.plan import Plan, make_plan
from mm_adapter.planning.plan_text import compared, comparison, to_text
from mm_adapter.planning.shapes import open_shape
from mm_adapter.planning.workload import make_workload
from mm_adapter.training.config import TrainingConfig


def add_plan(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        pass
        from mm_adapter.training.config import load_config

        found = plan(
            load_config(options.preset, overrides(options)),
            options.ranks,
            options.questions,
            options.question_tokens,
            options.answer_tokens,
            options.image_features,
            options.utilisation,
            options.memory,
            options.measure,
        )
        print(json.dumps(found.to_json(), ensure_ascii=False) if options.json else found.to_text())

    text = "Say what a training run will take, before anything is loaded: memory, work, time, what fits."
    parser = add_command(
        commands,
        "plan",
        run,
        text,
        "--llama may also be a shape: llama-7b, llama-13b, llama-70b, llama-3-8b; --device is a "
        "kind: cpu (this machine), a100-40g, a100, h100, h200, rtx-3090, rtx-4090, v100, l4, t4.",
    )
    parser.add_argument("--preset", help="preset name or TOML file")
    parser.add_argument("--ranks", type=positive, default=1, help="devices; they share the questions of a step")
    parser.add_argument("--questions", type=positive, help="in an epoch: ScienceQA's 12,726 or Alpaca's 52,002")
    parser.add_argument("--question-tokens", type=positive, help="mean tokens of a question with all of its options")
    parser.add_argument("--answer-tokens", type=positive, help="positions of a question that predict something")
    parser.add_argument("--image-features", type=positive, help="width of the image features, where it is not known")
    parser.add_argument("--utilisation", type=float, help="share of the device's rate that is reached, 0 to 1")
    parser.add_argument("--memory", type=float, help="gigabytes of a device, where not what is published")
    parser.add_argument("--measure", action="store_true", help="run a few steps here and compare, line by line")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    add_config_options(parser)
    parser.add_argument("--batch", dest="batch_size", type=int, metavar="VALUE", help="the same as --batch-size")


@dataclass(frozen=True)
class Comparison:
    """A short real run and its plan."""

    plan: Plan
    measured: Measurement


@dataclass(frozen=True)
class Answer:
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
) -> Answer:
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
    return Answer(found, largest_pass(found), suggest(found), run)
