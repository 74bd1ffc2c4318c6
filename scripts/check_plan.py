"""The plan of a run against real ones: parameters, peak memory, operations, and what ranks sum.

    python scripts/check_plan.py [--json FILE]

Five short runs of random weights on the CPU, each in a process of its own: three steps of the real training loop with
validation and the writing of its state. Peak memory is what the process's resident memory grew by since its libraries
were loaded, at its highest; the plan counts no libraries either. The C library is told to hand freed memory back
(``mm_adapter.planning.measurement``): the holes that it keeps otherwise are no tensors. Operations are those of the
counter of PyTorch; bytes are counted where ``DistributedDataParallel`` sums gradients on two ranks.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bars import bar, write_bars

from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.devices import find_device
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.planning.measurement import Measurement, measure, short_run
from mm_adapter.planning.plan import Plan, make_plan
from mm_adapter.planning.plan_text import compared
from mm_adapter.planning.reduction import RANKS, reduced_bytes
from mm_adapter.planning.shapes import SHAPES, BaseShape
from mm_adapter.planning.workload import make_workload
from mm_adapter.training.config import TrainingConfig

SMOLLM2 = SHAPES["smollm2-135m"]
MEDIUM = LlamaConfig(16384, 512, 12, 8, 4, 64, 1408)
TINY = LlamaConfig(500, 64, 3, 4, 2, 16, 128)
LIMIT = 0.10  # by which memory and operations may be off


@dataclass(frozen=True)
class Run:
    """A configuration.

    Attributes:
        name: for the table.
        shape: of the base.
        tokens, answers: of a question.
        values: settings.
        tower: of the image features.
    """

    name: str
    shape: LlamaConfig
    tokens: int
    answers: int
    values: dict[str, Any]
    tower: TowerShape = NO_TOWER

    def plan(self, ranks: int = 1) -> Plan:
        """Return the plan of the run on this processor."""
        config = TrainingConfig(**{"vision": "none", "token_budget": 4096, **self.values})
        load = make_workload(config, ranks, question_tokens=self.tokens, answer_tokens=self.answers)
        return make_plan(BaseShape("random", self.shape), config, find_device("cpu"), load, self.tower, ranks)


TILES, QUERY = {"image_prompts": "tiles"}, {"image_prompts": "query"}
PIECES = 5 * (24, 40, 112, 320, 1280)  # five tiles
RUNS = [
    Run("adapter, L 30", SMOLLM2, 128, 30, {"layers": 30, "batch_size": 8}),
    Run("adapter, L 15, pictures", SMOLLM2, 100, 12, {"layers": 15, "batch_size": 12}, TowerShape(1776, 0)),
    Run(
        "adapter, L 15, tiles", SMOLLM2, 100, 12, {**TILES, "layers": 15, "batch_size": 12}, TowerShape(8880, 0, PIECES)
    ),
    Run(
        "adapter, L 15, query",
        SMOLLM2,
        100,
        12,
        {**QUERY, "layers": 15, "batch_size": 12},
        TowerShape(1280, 0, tokens=49),
    ),
    Run("adapter, L 20, bfloat16", SMOLLM2, 200, 90, {"layers": 20, "batch_size": 4, "dtype": "bfloat16"}),
    Run("lora", SMOLLM2, 64, 16, {"method": "lora", "batch_size": 16, "token_budget": 512}),
    Run("full", MEDIUM, 128, 30, {"method": "full", "batch_size": 8, "base_lr": 0.001}),
]


def check(run: Run) -> list[dict[str, Any]]:
    """Print planned and measured figures of a run; return its bars."""
    plan = short_run(run.plan())
    measured: Measurement = measure(plan)
    rows = {name: (planned, real) for name, planned, real in compared(plan, measured)}
    counts = (rows["trained parameters"], rows["frozen parameters"])
    exact = all(planned == real for planned, real in counts)
    memory, flops = (planned / real for planned, real in (rows["peak memory, MB"], rows["GFLOP a pass"]))
    print(
        f"{run.name:26}{measured.trained_parameters:>14,}{'yes' if exact else 'NO':>7}"
        f"{rows['peak memory, MB'][0]:>11.0f}{rows['peak memory, MB'][1]:>11.0f}{memory:>8.3f}"
        f"{rows['GFLOP a pass'][0]:>11.1f}{rows['GFLOP a pass'][1]:>11.1f}{flops:>8.4f}  {plan.memory.phase}",
        flush=True,
    )
    return [
        bar(f"{run.name}: parameters exact", float(exact), 1.0, exact),
        *(
            bar(f"{run.name}: {what}, planned over measured", ratio, 1 + LIMIT, abs(ratio - 1) <= LIMIT)
            for what, ratio in (("peak memory", memory), ("operations", flops))
        ),
    ]


def check_communication() -> list[dict[str, Any]]:
    """Print planned and counted bytes of a step of two ranks; return the bars."""
    bars = []
    for run in (
        Run("adapter", TINY, 24, 5, {"layers": 2}),
        Run("adapter, pictures", TINY, 24, 5, {"layers": 2}, TowerShape(40, 0)),
        Run("lora", TINY, 24, 5, {"method": "lora"}),
        Run("full", TINY, 24, 5, {"method": "full"}),
    ):
        plan = run.plan(RANKS)
        planned, counted = plan.communication.reduced, reduced_bytes(run.shape, plan.config, run.tower)
        print(f"{run.name:26}{planned:>14,}{counted:>14,}", flush=True)
        bars.append(bar(f"{run.name}: bytes summed, planned over counted", planned / counted, 1.0, planned == counted))
    return bars


def main() -> int:
    """Run everything, print the tables, write the bars; exit 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    print(
        f"{'run':26}{'trained':>14}{'exact':>7}{'MB planned':>11}{'measured':>11}{'ratio':>8}"
        f"{'GFLOP':>11}{'counted':>11}{'ratio':>8}  fullest at"
    )
    bars = [found for run in RUNS for found in check(run)]
    print(f"\n{'step of two ranks':26}{'bytes planned':>14}{'counted':>14}")
    bars += check_communication()
    if options.json is not None:
        write_bars(options.json, bars)
    return 0 if all(found["holds"] for found in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
