"""Tiny runs to hold plans against."""

from dataclasses import dataclass
from typing import Any

import torch

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.llama import LlamaConfig
from mm_adapter.model import MultimodalLlama
from mm_adapter.planning.activations import Sizes
from mm_adapter.planning.synthetic import random_llama, random_questions
from mm_adapter.planning.workload import Workload
from mm_adapter.scoring.encoded_sets import QuestionSet
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.task import QuestionTask

SHAPE = LlamaConfig(1000, 96, 4, 6, 2, 16, 256, tied_embeddings=True)


@dataclass(frozen=True)
class Case:
    """A way of training, its sizes, and the real thing.

    Attributes:
        sizes: as a plan sees it.
        image_size: width of the features.
        task: the real model with its questions.
        examples: these.
    """

    sizes: Sizes
    image_size: int
    task: QuestionTask
    examples: QuestionSet

    @property
    def model(self) -> MultimodalLlama:
        return self.task.model


def make_case(shape: LlamaConfig = SHAPE, image_size: int = 0, **values: Any) -> Case:
    """Return a case of five questions of 60 tokens, 9 of which predict."""
    base = random_llama(shape, getattr(torch, values.get("dtype", "float32")))
    config = TrainingConfig(**{"vision": "none", "layers": 2, "prompt_length": 7, "bottleneck": 8, **values})
    if config.method == "adapter":
        kind = AdapterConfig(config.layers, config.prompt_length, config.attention, image_size, config.bottleneck)
        model = MultimodalLlama(base, Adapter(kind, shape))
    else:
        settings = FinetuneConfig(config.method, config.lora_rank, config.lora_alpha)
        model = MultimodalLlama(base, finetuned=prepare_finetuning(base.model, settings))
    load = Workload(5, 60, 9)
    examples = random_questions(5, 60, 9, shape.vocab_size, image_size)
    sizes = Sizes(shape, config, load, "cpu", bool(image_size))
    return Case(sizes, image_size, QuestionTask(model, examples, examples, config), examples)


CASES: dict[str, dict[str, Any]] = {
    "adapter": {},
    "adapter in every layer": {"layers": 4},
    "adapter in the last layer": {"layers": 1},
    "adapter with pictures": {"image_size": 33},
    "adapter in bfloat16": {"dtype": "bfloat16"},
    "adapter in bfloat16 with pictures": {"dtype": "bfloat16", "image_size": 33},
    "joined prompts": {"attention": "random-init"},
    "joined prompts in bfloat16": {"attention": "random-init", "dtype": "bfloat16", "layers": 3},
    "lora": {"method": "lora"},
    "lora in bfloat16": {"method": "lora", "dtype": "bfloat16"},
    "full": {"method": "full"},
}
