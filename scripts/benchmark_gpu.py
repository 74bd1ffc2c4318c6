"""Training speed and memory of 7B on a GPU against its plan: tokens a second, share of the published peak, peak memory.

    python scripts/benchmark_gpu.py [--shape llama-7b] [--device h100] [--quantization none] [--offload] [--json FILE]

Random weights, made on the device, in bfloat16 on a GPU; the real training loop over random questions: 4 of 256 tokens
in a pass, 4 passes in a step, 30 adapted layers of 10 prompts. ``--shape small --device cpu`` tries the script itself
anywhere.
"""

import argparse
import sys
from pathlib import Path

from bars import bar, write_bars

from mm_adapter.core.errors import UserError
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.devices import find_device
from mm_adapter.planning.image_costs import TowerShape
from mm_adapter.planning.measurement import measure, short_run
from mm_adapter.planning.plan import make_plan
from mm_adapter.planning.plan_text import comparison
from mm_adapter.planning.shapes import SHAPES, BaseShape
from mm_adapter.planning.workload import make_workload
from mm_adapter.training.checked import fast_dtype
from mm_adapter.training.config import TrainingConfig

SMALL = LlamaConfig(1000, 128, 4, 4, 2, 32, 320)
TOKENS, ANSWER, IN_A_PASS, PASSES = 256, 128, 4, 4
MEMORY_LIMIT = 0.10  # by which peak memory may be off its plan
SMALL_CARD = 8e9  # bytes; 7B in 4 bits is for those who have no more


def main() -> int:
    """Plan, measure, print both, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="llama-7b", help=f"small, or one of {', '.join(SHAPES)}")
    parser.add_argument("--device", default="h100", help="kind of the device that is here, or cpu")
    parser.add_argument("--dtype", help="of the frozen weights; by default what is fastest, bfloat16 on a GPU")
    parser.add_argument("--quantization", default="none", help="of the frozen weights")
    parser.add_argument("--offload", action="store_true", help="leave the frozen layers in the host's memory")
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    try:
        return run(options)
    except UserError as error:
        print(f"benchmark_gpu: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Run what the options say."""
    if options.shape != "small" and options.shape not in SHAPES:
        raise UserError(f"--shape {options.shape!r} is not known; small, {', '.join(SHAPES)} are.")
    shape = SMALL if options.shape == "small" else SHAPES[options.shape]
    config = TrainingConfig(
        vision="none",
        layers=min(30, shape.num_layers),
        batch_size=IN_A_PASS * PASSES,
        token_budget=IN_A_PASS * TOKENS,
        base_lr=0.009,
        dtype=options.dtype or fast_dtype("cpu" if options.device == "cpu" else "cuda"),
        quantization=options.quantization,
        offload=options.offload,
    )
    load = make_workload(config, question_tokens=TOKENS, answer_tokens=ANSWER)
    device = find_device(options.device)
    plan = short_run(make_plan(BaseShape(options.shape, shape), config, device, load, TowerShape(0, 0)), options.steps)
    measured = measure(plan)
    tokens = config.batch_size * TOKENS / measured.step_seconds
    share = load.passes * measured.pass_flops / measured.step_seconds / device.rate(config.dtype)
    # A small model on the CPU may fit into what the process had taken before.
    memory = plan.memory.peak / max(1, measured.peak_memory)
    # Less than the assumed utilisation where weights must be brought or unpacked.
    planned_share = load.passes * measured.pass_flops / plan.step_seconds() / device.rate(config.dtype)
    room = SMALL_CARD if (options.shape, config.quantization) == ("llama-7b", "int4") else device.memory
    kind = f"{config.dtype}, quantization {config.quantization}{', offloaded' if config.offload else ''}"
    print(f"{options.shape} on {device.name}, {kind}: {plan.memory.phase}")
    print(comparison(plan, measured))
    print(f"{tokens:,.0f} tokens/s, {share:.1%} of {device.rate(config.dtype) / 1e12:,.1f} TFLOP/s ({device.source})")
    if options.json is not None:
        bars = [
            bar(
                "tokens/s, measured over planned",
                tokens / plan.tokens_per_second,
                1.0,
                tokens >= plan.tokens_per_second,
            ),
            bar("share of the device's rate", share, planned_share, share >= planned_share),
            bar("peak memory, planned over measured", memory, 1 + MEMORY_LIMIT, abs(memory - 1) <= MEMORY_LIMIT),
            bar("peak memory measured, GB", measured.peak_memory / 1e9, room / 1e9, measured.peak_memory <= room),
        ]
        write_bars(options.json, bars)
    return 0


if __name__ == "__main__":
    sys.exit(main())
