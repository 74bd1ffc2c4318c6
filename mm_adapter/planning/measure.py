"""A short real run of what was planned, in a process of its own, so that its peak memory is its own.

Started as ``python -m mm_adapter.planning.measure``, with the request as JSON on its input; the answer is JSON, its
last line of output.
"""

import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.commands.train import build_model
from mm_adapter.errors import UserError
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.weights import LoadedLlama
from mm_adapter.model import MultimodalLlama
from mm_adapter.planning.plan import Plan, make_plan
from mm_adapter.planning.synthetic import random_llama, random_questions
from mm_adapter.planning.workload import Workload
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.task import QuestionTask
from mm_adapter.training.trainer import Trainer, trained_parameters

STEPS = 3  # the second is the first with all of its optimiser's state


@dataclass(frozen=True)
class Measurement:
    """What a real run took.

    Attributes:
        trained_parameters, frozen_parameters: counted in the model.
        peak_memory: bytes; on the CPU what the process grew by since its libraries were loaded, the model included.
        pass_flops: operations of a pass by PyTorch's counter.
        step_seconds: of the fastest optimiser step.
    """

    trained_parameters: int
    frozen_parameters: int
    peak_memory: int
    pass_flops: int
    step_seconds: float


def short_run(plan: Plan) -> Plan:
    """Return the plan of a few steps, without the image tower: what ``measure`` runs."""
    config = replace(plan.config, epochs=1.0, warmup_epochs=0.0, evaluations=1.0)
    load = replace(plan.load, epoch_questions=STEPS * plan.load.step_questions)
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
    if not plan.fits:
        raise UserError("--measure: it does not fit, so it is not tried; see what the plan suggests.")
    request = {
        "shape": _plain(plan.base.config),
        "config": plan.config.to_json(),
        "load": asdict(plan.load),
        "image_size": plan.image_size,
    }
    command = [sys.executable, "-m", "mm_adapter.planning.measure"]
    # Its progress is nobody's concern, its errors are.
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(f"--measure: the run failed ({reason[0]}).")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def _plain(shape: LlamaConfig) -> dict[str, Any]:
    # How positions are stretched changes neither memory nor work.
    return {**asdict(shape), "rope_scaling": None}


def answer(request: dict[str, Any]) -> Measurement:
    """Measure in this process."""
    shape = LlamaConfig(**{**request["shape"], "end_tokens": ()})
    config, load = TrainingConfig(**request["config"]), Workload(**request["load"])
    device = torch.device(config.device)
    _warm_up(device)
    before = _peak(device)
    base = random_llama(shape, getattr(torch, config.dtype), device, config.seed)
    model = random_model(base, config, request["image_size"])
    sizes = (load.question_tokens, load.predicting, shape.vocab_size, request["image_size"])
    train, val = random_questions(load.epoch_questions, *sizes), random_questions(2, *sizes, seed=1)
    task = QuestionTask(model, train, val, config)
    assert model.trained is not None
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, task, config, Path(folder), quiet=True)
        trainer.run()
        events = [json.loads(line) for line in trainer.log.path.read_text().splitlines()]
    grown = _peak(device) - before
    rates = [event["questions_per_second"] for event in events if "questions_per_second" in event]
    trained = trained_parameters(model.trained)
    frozen = sum(weight.numel() for weight in model.llama.parameters() if not weight.requires_grad)
    return Measurement(trained, frozen, grown, count_flops(task, load.questions), load.step_questions / max(rates))


def random_model(base: LoadedLlama, config: TrainingConfig, image_size: int) -> MultimodalLlama:
    """Return the model that training would make on a base, with features of pictures but no tower."""
    model = build_model(replace(config, vision="none"), base)
    if image_size:
        kind = AdapterConfig(config.layers, config.prompt_length, config.attention, image_size, config.bottleneck)
        model.adapter = Adapter(kind, base.model.config, config.seed).to(base.model.device)
    return model


def count_flops(task: QuestionTask, questions: int) -> int:
    """Return the operations of one pass over the first questions, there and back, by PyTorch's counter.

    It does not know the CPU's fused attention, which is told here: two products there, five back, as of any other.
    """
    ops = torch.ops.aten
    fused: dict[Any, Any] = {
        ops._scaled_dot_product_flash_attention_for_cpu: _attention_there,
        ops._scaled_dot_product_flash_attention_for_cpu_backward: _attention_back,
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        task.losses(range(questions), None).sum().backward()
    return counter.get_total_flops()


def _attention_there(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, _by_queries(key, query), _by_queries(value, query)))


def _attention_back(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, _by_queries(key, query), _by_queries(value, query)))


def _by_queries(keys: Any, queries: Any) -> tuple[int, ...]:
    # The counter's formulas know no key heads that several query heads share.
    return (keys[0], queries[1], *keys[2:])


def _warm_up(device: torch.device) -> None:
    """Load what a first step loads: threads, kernels, optimisers."""
    weight = torch.ones(64, 64, device=device, requires_grad=True)
    (weight @ weight).sum().backward()
    torch.optim.AdamW([weight]).step()
    import matplotlib.pyplot  # noqa: F401 - drawn with at the end of a run


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(answer(json.load(sys.stdin)))))
