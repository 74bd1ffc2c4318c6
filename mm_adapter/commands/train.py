"""``mm-adapter train``: a preset and a dataset become a run folder."""

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from data.prompts import Prompting
from data.readers import read_dataset
from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.checkpoint import CONFIG_FILE
from mm_adapter.commands.prepare import Prepared, check_device, prepare, without_images
from mm_adapter.errors import UserError
from mm_adapter.files import write_json
from mm_adapter.llama.weights import LoadedLlama, load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.state import STATE_FILE
from mm_adapter.training.task import QuestionTask
from mm_adapter.training.trainer import Trainer, trained_parameters
from mm_adapter.update import UpdateConfig, make_update
from mm_adapter.vision import VisionConfig

RUN_FILE = "run.json"


def train(
    config: TrainingConfig,
    data: str,
    out: Path,
    resume: bool = False,
    skip_bad: bool = False,
    features: Path | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict[str, Any]:
    """Train an adapter on a dataset's ``train`` split; its ``val`` split chooses the weights that are kept.

    Args:
        config: settings.
        data: ScienceQA folder, parquet folder or hub id.
        out: run folder; gets the best adapter, config.json, metrics.jsonl, curve.png and run.json.
        resume: go on from the last state in ``out``.
        skip_bad: leave out questions that cannot be used, and say which.
        features: folder of the feature store.
        quiet: show no progress bars.
        say: receives lines for a person.

    Returns:
        What ``run.json`` holds: best validation accuracy, parameters, seconds, skipped and shortened questions.

    Raises:
        UserError: bad settings or data, or ``out`` holds another run.
    """
    if not resume and ((out / CONFIG_FILE).exists() or (out / STATE_FILE).exists()):
        raise UserError(f"{out}: holds a run already; choose another --out, or go on with it by --resume.")
    dataset = read_dataset(data, skip_bad=skip_bad)
    questions = {split: dataset.split(split) for split in ("train", "val")}
    model = build_model(config)
    if model.vision is None:
        questions = {split: without_images(members) for split, members in questions.items()}
    prepared = {
        split: prepare(model, members, skip_bad, features, progress=not quiet) for split, members in questions.items()
    }
    skipped = {pid: reason for split in questions for pid, reason in dataset.skipped(split).items()}
    for part in prepared.values():
        skipped |= part.skipped
    assert model.trained is not None
    task = QuestionTask(model, prepared["train"].examples, prepared["val"].examples, config)
    trainer = Trainer(model, task, config, out, resume=resume, quiet=quiet)
    write_json(out / "config.json", config.to_json())
    _announce(say, config, model, prepared, skipped)
    try:
        trainer.run()
    except KeyboardInterrupt:
        say(f"stopped at step {trainer.progress.step}; the state is kept. Go on with the same command and --resume.")
        raise
    best = trainer.progress.best
    result = {
        "best_val_accuracy": best[0] if best else None,
        "trained_parameters": trained_parameters(model.trained),
        "steps": trainer.progress.step,
        "seconds": round(trainer.progress.seconds, 1),
        "questions": len(prepared["train"].examples.questions),
        "shortened": {split: part.shortened for split, part in prepared.items()},
        "skipped": skipped,
    }
    write_json(out / RUN_FILE, result)
    return result


def build_model(config: TrainingConfig, base: LoadedLlama | None = None) -> MultimodalLlama:
    """Return the model of ``config`` with a fresh adapter, or with weights of its own to be trained.

    Args:
        base: an already loaded base model; read from ``config.llama`` otherwise.
    """
    check_device(config.device)
    prompting = make_prompting(config)
    if base is None:
        base = load_llama(config.llama, getattr(torch, config.dtype), config.device)
    vision = None
    if config.vision != "none":
        views = tuple(view.strip() for view in config.views.split(","))
        vision = VisionConfig(config.vision, config.depths, views)
    if config.method != "adapter":
        settings = UpdateConfig(config.method, config.lora_rank, config.lora_alpha)
        return MultimodalLlama(base, prompting=prompting, update=make_update(base.model, settings, config.seed))
    model = MultimodalLlama(base, vision=vision, prompting=prompting)
    width = 0 if vision is None else model.tower.feature_size
    shape = AdapterConfig(config.layers, config.prompt_length, config.attention, width, config.bottleneck)
    model.adapter = Adapter(shape, base.model.config, config.seed).to(base.model.device)
    if vision is not None:
        model.vision_fingerprint = model.tower.fingerprint
    return model


def make_prompting(config: TrainingConfig) -> Prompting:
    """Return how questions are put under ``config``."""
    names = [field.name for field in fields(Prompting)]
    return Prompting(**{name: getattr(config, name) for name in names})


def _announce(
    say: Callable[[str], None],
    config: TrainingConfig,
    model: MultimodalLlama,
    prepared: dict[str, Prepared],
    skipped: dict[str, str],
) -> None:
    assert model.trained is not None
    frozen = sum(weight.numel() for weight in model.llama.parameters() if not weight.requires_grad)
    say(f"{config.llama}: {frozen:,} parameters frozen, {trained_parameters(model.trained):,} trained")
    counts = ", ".join(f"{len(part.examples.questions)} {split}" for split, part in prepared.items())
    shortened = sum(part.shortened for part in prepared.values())
    say(f"questions: {counts}; {shortened} with a shortened context, {len(skipped)} skipped")
    for pid, reason in list(skipped.items())[:5]:
        say(f"  skipped {pid}: {reason}")
    say(
        f"rate {config.rate:.2e} = base_rate {config.base_rate:g} x batch_size {config.batch_size} / 256; "
        f"gates x {config.gate_rate:g}, projection x {config.projection_rate:g}"
    )
