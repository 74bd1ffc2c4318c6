"""Tiny runs to hold plans against."""

from dataclasses import dataclass
from typing import Any

import torch

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.llama import LlamaConfig
from mm_adapter.model import MultimodalLlama
from mm_adapter.planning.activations import Sizes
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.planning.synthetic import random_llama, random_questions
from mm_adapter.planning.workload import Workload
from mm_adapter.scoring.encoded_sets import QuestionSet
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.run import adapter_config
from mm_adapter.training.task import QuestionTask

SHAPE = LlamaConfig(1000, 96, 4, 6, 2, 16, 256, tied_embeddings=True)


@dataclass(frozen=True)
class Case:
    """A way of training, its sizes, and the real thing.

    Attributes:
        sizes: as a plan sees it.
        task: the real model with its questions.
        examples: these.
    """

    sizes: Sizes
    task: QuestionTask
    examples: QuestionSet

    @property
    def model(self) -> MultimodalLlama:
        return self.task.model


def make_case(shape: LlamaConfig = SHAPE, tower: TowerShape = NO_TOWER, **values: Any) -> Case:
    """Return a case of five questions of 60 tokens, 9 of which predict."""
    base = random_llama(shape, getattr(torch, values.get("dtype", "float32")))
    config = TrainingConfig(**{"vision": "none", "layers": 2, "prompt_length": 7, "bottleneck": 8, **values})
    if config.method == "adapter":
        model = MultimodalLlama(base, Adapter(adapter_config(config, tower.features, tower.pieces), shape))
    else:
        settings = FinetuneConfig(config.method, config.lora_rank, config.lora_alpha)
        model = MultimodalLlama(base, finetuned=prepare_finetuning(base.model, settings))
    load = Workload(5, 60, 9)
    examples = random_questions(5, 60, 9, shape.vocab_size, tower)
    sizes = Sizes(shape, config, load, "cpu", tower)
    return Case(sizes, QuestionTask(model, examples, examples, config), examples)


CASES: dict[str, dict[str, Any]] = {
    "adapter": {},
    "adapter in every layer": {"layers": 4},
    "adapter in the last layer": {"layers": 1},
    "adapter with pictures": {"tower": TowerShape(33, 0)},
    "adapter in bfloat16": {"dtype": "bfloat16"},
    "adapter in bfloat16 with pictures": {"dtype": "bfloat16", "tower": TowerShape(33, 0)},
    "tiles": {"tower": TowerShape(33, 0, (5, 20, 8)), "image_prompts": "tiles"},
    "tiles in bfloat16": {"tower": TowerShape(33, 0, (5, 20, 8)), "image_prompts": "tiles", "dtype": "bfloat16"},
    "query": {"tower": TowerShape(33, 0, tokens=6), "image_prompts": "query", "query_width": 16, "query_blocks": 3},
    "query in bfloat16": {"tower": TowerShape(33, 0, tokens=6), "image_prompts": "query", "dtype": "bfloat16"},
    "joined prompts": {"attention": "random-init"},
    "joined prompts in bfloat16": {"attention": "random-init", "dtype": "bfloat16", "layers": 3},
    "lora": {"method": "lora"},
    "lora in bfloat16": {"method": "lora", "dtype": "bfloat16"},
    "full": {"method": "full"},
}
