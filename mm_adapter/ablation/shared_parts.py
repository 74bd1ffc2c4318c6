"""What the runs of a grid have in common: the frozen model, the image tower, the encoded questions; each made once."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mm_adapter.data.question import Dataset, Question
from mm_adapter.data.templates import Prompting
from mm_adapter.distributed import check_device
from mm_adapter.llama.checkpoints.load import LoadedLlama, load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.prepare import Parts, Prepared, prepare, question_prompting, without_images
from mm_adapter.training.run import vision_of
from mm_adapter.vision import ImageTower, VisionConfig

_SUBSET_SEED = 0


class SharedParts:
    """Loads a base model and encodes questions when a run first asks for them, and gives them to all that agree.

    One base model is kept at a time: where a run wants another one, the first is let go with all that was made for it.
    The outputs of its lower layers are each run's own, see ``mm_adapter.scoring.encoded_sets.HiddenStateCache``.

    Args:
        dataset: questions of all splits.
        splits: those that are used, ``train`` and ``val`` among them.
        limits: split -> how many of its questions are used: a seeded choice, the same for all runs, in their order.
        features: folder of the feature store; the cache folder by default.
        progress: show a bar while features are computed.

    Attributes:
        questions: split -> the questions that are used.

    Raises:
        UserError: a split is not there or empty.
    """

    def __init__(
        self,
        dataset: Dataset,
        splits: Sequence[str],
        limits: Mapping[str, int],
        features: Path | None = None,
        progress: bool = True,
    ) -> None:
        self.questions = {split: choose(dataset.split(split), limits.get(split)) for split in splits}
        self._features, self._progress = features, progress
        self._key: tuple[Any, ...] | None = None
        self._base: LoadedLlama | None = None
        self._towers: dict[VisionConfig, ImageTower] = {}
        self._prepared: dict[tuple[VisionConfig | None, Prompting], dict[str, Prepared]] = {}

    def parts(self, config: TrainingConfig) -> Parts:
        """Return what a run of ``config`` has in common with others.

        Raises:
            UserError: something cannot be loaded, or a question cannot be used.
        """
        base = self._loaded(config)
        vision, prompting = vision_of(config), question_prompting(config)
        tower = None if vision is None else self._towers.get(vision)
        model = MultimodalLlama(base, vision=vision, prompting=prompting, tower=tower)
        if vision is not None:
            self._towers[vision] = tower = model.tower
        key = (vision, prompting)
        if key not in self._prepared:
            self._prepared[key] = {split: self._prepare(model, members) for split, members in self.questions.items()}
        return Parts(base, self._prepared[key], tower)

    def _loaded(self, config: TrainingConfig) -> LoadedLlama:
        key = base_key(config)
        if self._base is None or self._key != key:
            # Let go before the next one comes: two may be more than the machine holds.
            self._base = None
            self._towers.clear()
            self._prepared.clear()
            check_device(config.device)
            dtype = getattr(torch, config.dtype)
            self._base = load_llama(config.llama, dtype, config.device, config.quantization, config.offload)
            self._key = key
        return self._base

    def _prepare(self, model: MultimodalLlama, questions: Sequence[Question]) -> Prepared:
        seen = without_images(questions) if model.vision is None else questions
        return prepare(model, seen, features=self._features, progress=self._progress)

    def digests(self) -> dict[str, str]:
        """Return split -> a digest of its questions: the same for the same questions in another folder."""
        return {split: _digest(questions) for split, questions in self.questions.items()}


def base_key(config: TrainingConfig) -> tuple[Any, ...]:
    """Return what says which frozen model a run stands on; runs with equal keys can share it."""
    return (config.llama, config.dtype, config.device, config.quantization, config.offload)


def choose(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """Return ``limit`` of the questions, a seeded choice in their order; all of them without a limit."""
    if limit is None or limit >= len(questions):
        return list(questions)
    chosen = random.Random(_SUBSET_SEED).sample(range(len(questions)), limit)
    return [questions[index] for index in sorted(chosen)]


def _digest(questions: Sequence[Question]) -> str:
    content = [{**asdict(question), "image": question.image is not None} for question in questions]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
