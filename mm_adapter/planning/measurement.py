"""A short real run of what was planned, in a process of its own, so that its peak memory is its own."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from mm_adapter.core.errors import UserError
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.plan import Plan, make_plan

STEPS = 3  # the second is the first with all of its optimiser's state
# The C library keeps freed memory for later, and between what is in use it grows holes, half as much again in a run of
# SmolLM2-135M. They are none of the run's tensors: here it hands large pieces back at once.
_HAND_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 18), "MALLOC_TRIM_THRESHOLD_": str(1 << 20)}


@dataclass(frozen=True)
class Measurement:
    """What a real run took.

    Attributes:
        trained_parameters, frozen_parameters: counted in the model.
        peak_memory: bytes; on the CPU what the process grew by since its libraries were loaded, the model included, and
            without what the C library keeps of freed memory.
        pass_flops: operations of a pass by PyTorch's counter.
        step_seconds: of an optimiser step, the median.
    """

    trained_parameters: int
    frozen_parameters: int
    peak_memory: int
    pass_flops: int
    step_seconds: float


def short_run(plan: Plan, steps: int = STEPS) -> Plan:
    """Return the plan of a few steps, without the image tower: what ``measure`` runs."""
    config = replace(plan.config, epochs=1.0, warmup_epochs=0.0, eval_every=1.0)
    load = replace(plan.load, epoch_questions=steps * plan.load.step_questions)
    tower = replace(plan.tower, parameters=0)
    return make_plan(plan.base, config, plan.device, load, tower, plan.ranks, plan.utilisation)


def measure(plan: Plan) -> Measurement:
    """Run a few steps on this machine, see ``short_run``: weights, questions and image features are random.

    Raises:
        UserError: it would not fit, or fails.
    """
    if plan.ranks > 1:
        raise UserError("--measure runs on one device; leave --ranks out.")
    if plan.device.kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--measure runs on this machine, which has no {plan.device.name}; name --device cpu.")
    if plan.config.quantization == "blocks":
        raise UserError(
            "--measure: blocks are those of a GGUF file, and weights here are random; int8 and int4 are measured."
        )
    if not plan.fits:
        raise UserError("--measure: it does not fit, so it is not tried; see what the plan suggests.")
    request = {
        "shape": _plain(plan.base.config),
        "config": plan.config.to_json(),
        "load": asdict(plan.load),
        "tower": asdict(plan.tower),
    }
    command = [sys.executable, "-m", "mm_adapter.planning.measure"]
    # Its progress is nobody's concern, its errors are.
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, env=os.environ | _HAND_BACK
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(f"--measure: the run failed ({reason[0]}).")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def _plain(shape: LlamaConfig) -> dict[str, Any]:
    # How positions are stretched changes neither memory nor work.
    return {**asdict(shape), "rope_scaling": None}
