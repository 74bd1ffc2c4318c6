"""The process that measures a short real run.

Started by ``mm_adapter.planning.measurement`` with the request as JSON on its input; the answer is JSON, the last line
of its output.
"""

import json
import math
import resource
import statistics
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.llama.checkpoints.load import LoadedLlama
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.frozen.matrix import count_frozen
from mm_adapter.llama.model import Llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.planning.image_costs import TowerShape
from mm_adapter.planning.measurement import Measurement
from mm_adapter.planning.synthetic import random_llama, random_questions
from mm_adapter.planning.workload import Workload
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.run import adapter_config, build_model
from mm_adapter.training.task import QuestionTask
from mm_adapter.training.trainer import Trainer, trained_parameters


def answer(request: dict[str, Any]) -> Measurement:
    """Measure in this process."""
    shape = LlamaConfig(**{**request["shape"], "end_tokens": ()})
    config, load = TrainingConfig(**request["config"]), Workload(**request["load"])
    device = torch.device(config.device)
    _warm_up(device, config.method, config.quantization)
    before = _peak(device)
    base = random_llama(shape, getattr(torch, config.dtype), device, config.seed, config.quantization, config.offload)
    tower = TowerShape(**request["tower"] | {"pieces": tuple(request["tower"]["pieces"])})
    model = random_model(base, config, tower)
    sizes = (load.question_tokens, load.predicting, shape.vocab_size, tower)
    # As many held-out questions as fill a pass: it may be what takes the most memory.
    looked_at = math.ceil(config.validation_budget / load.question_tokens)
    train, val = random_questions(load.epoch_questions, *sizes), random_questions(looked_at, *sizes, seed=1)
    task = QuestionTask(model, train, val, config)
    assert model.trained is not None
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, task, config, Path(folder), quiet=True)
        trainer.run()
        events = trainer.log.events
    grown = _peak(device) - before
    rates = [event["questions_per_second"] for event in events if "questions_per_second" in event]
    trained = trained_parameters(model.trained)
    frozen = count_frozen(model.llama)
    return Measurement(
        trained, frozen, grown, count_flops(task, load.questions), load.step_questions / statistics.median(rates)
    )


def random_model(base: LoadedLlama, config: TrainingConfig, tower: TowerShape) -> MultimodalLlama:
    """Return the model that training would make on a base, with features of pictures but no tower."""
    model = build_model(replace(config, vision="none"), base)
    if tower.features:
        kind = adapter_config(config, tower.features, tuple(tower.pieces))
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


def _warm_up(device: torch.device, method: str, quantization: str) -> None:
    """Load what a first step loads: threads, kernels, libraries."""
    weight = torch.ones(64, 64, device=device, requires_grad=True)
    (weight @ weight).sum().backward()
    torch.optim.AdamW([weight]).step()
    import matplotlib.pyplot  # noqa: F401 - drawn with at the end of a run

    if quantization != "none":
        random_llama(LlamaConfig(64, 64, 1, 1, 1, 64, 64), torch.float32, quantization=quantization)
    if method == "lora":
        prepare_finetuning(Llama(LlamaConfig(2, 4, 1, 1, 1, 4, 4)), FinetuneConfig(method))


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's ru_maxrss begins with that of the process which started this one, however large it was.
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(answer(json.load(sys.stdin)))))
