"""Tiny runs of the training loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mm_adapter.data.encoding import encode_questions
from mm_adapter.data.readers import read_dataset
from mm_adapter.llama.checkpoints.load import LoadedLlama, load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import QuestionSet
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.prepare import question_prompting, without_images
from mm_adapter.training.run import build_model, new_adapter
from mm_adapter.training.task import QuestionTask
from mm_adapter.training.trainer import Trainer


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Path) -> LoadedLlama:
    return load_llama(str(tiny_folder))


@pytest.fixture
def make_config(tiny_folder: Path) -> Callable[..., TrainingConfig]:
    """Return a function that makes settings of seconds: two adapted layers, text only."""

    def make(**values: Any) -> TrainingConfig:
        small: dict[str, Any] = {
            "llama": str(tiny_folder),
            "vision": "none",
            "layers": 2,
            "prompt_length": 3,
            "epochs": 1.0,
            "warmup_epochs": 0.0,
            "batch_size": 6,
            "base_lr": 0.5,
            "max_length": 400,
        }
        return TrainingConfig(**{**small, **values})

    return make


@pytest.fixture
def make_trainer(
    tmp_path: Path, tiny_base: LoadedLlama, demo_folder: Path, make_config: Callable[..., TrainingConfig]
) -> Callable[..., Trainer]:
    """Return a function that makes a trainer on twelve questions (or with random features of pictures)."""

    def make(
        folder: str = "run",
        resume: bool = False,
        pictures: bool = False,
        base: LoadedLlama | None = None,
        **values: Any,
    ) -> Trainer:
        config = make_config(**values)
        if pictures:
            config = replace(config, layers=2, prompt_length=3, bottleneck=4)
            adapter = new_adapter(config, base or tiny_base, 8, (3, 5))
            model = MultimodalLlama(base or tiny_base, adapter, prompting=question_prompting(config))
        else:
            model = build_model(config, base or tiny_base)
        dataset = read_dataset(str(demo_folder))
        sets = []
        for split, count in (("train", 12), ("val", 5)):
            questions = dataset.split(split)[:count]
            if not pictures:
                questions = without_images(questions)
            encoded, _ = encode_questions(questions, model.template, model.tokenizer, model.max_length)
            generator = torch.Generator().manual_seed(3)
            shape = (5, 8) if config.image_prompts == "query" else (8,)
            images = [question.image for question in questions if question.image is not None]
            sets.append(QuestionSet(encoded, {image: torch.randn(shape, generator=generator) for image in images}))
        return Trainer(model, QuestionTask(model, *sets, config), config, tmp_path / folder, resume=resume, quiet=True)

    return make
