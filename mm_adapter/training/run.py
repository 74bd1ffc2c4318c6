"""``mm-adapter train``: a preset and a dataset become a run folder."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.checkpoint import adapter_folder, start_from
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.core.errors import Stopped, UserError
from mm_adapter.core.files import file_sha256, write_json
from mm_adapter.data.question import TableOptions
from mm_adapter.data.templates import Prompting
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext, check_device, init_distributed
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import LoadedLlama, load_llama
from mm_adapter.llama.frozen.matrix import count_frozen
from mm_adapter.model import MultimodalLlama
from mm_adapter.pretrained import load_shared
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.folder import RUN_FILE, start
from mm_adapter.training.prepare import Parts, PreparedTask, make_prompting, prepare_questions, question_task
from mm_adapter.training.task import QuestionTask
from mm_adapter.training.trainer import Trainer, trained_parameters
from mm_adapter.vision import ImageTower, VisionConfig


def train(
    config: TrainingConfig,
    data: str,
    out: Path,
    resume: str = "no",
    skip_bad: bool = False,
    features: Path | None = None,
    table: TableOptions | None = None,
    quiet: bool = False,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    parts: Parts | None = None,
) -> dict[str, Any]:
    """Train an adapter on questions or conversations; those of the ``val`` split choose the weights that are kept.

    Args:
        config: settings.
        data: ScienceQA folder, or a table: a file, a folder or a hub id.
        out: run folder, which the first rank writes; gets the best adapter, config.json, metrics.jsonl, curve.png and
            run.json.
        resume: ``must`` go on from the last state in ``out``; ``auto``: where there is one; or ``no``.
        skip_bad: leave out what cannot be used, and say which.
        features: folder of the feature store.
        table: how a table is taken.
        quiet: show no progress bars.
        log: receives lines for a person.
        parts: what several runs have in common, as ``config`` and ``data`` say; then nothing of it is read again.

    Returns:
        What ``run.json`` holds: best validation accuracy, parameters, seconds, skipped and shortened questions.

    Raises:
        UserError: bad settings or data, or ``out`` holds another run.
    """
    with init_distributed(config.device) as distributed:
        # The first rank alone looks at the folder, before anything is written, and speaks.
        begun = distributed.broadcast(start(out, resume, config, log) if distributed.is_main else None)
        if begun.result is not None:
            result: dict[str, Any] = begun.result
            return result
        log = log if distributed.is_main else _silent
        quiet = quiet or not distributed.is_main
        return _train(config, data, out, begun.resume, skip_bad, features, table, quiet, log, parts, distributed)


def _silent(line: str) -> None:
    """Say nothing: the first rank does."""


def _train(
    config: TrainingConfig,
    data: str,
    out: Path,
    resume: bool,
    skip_bad: bool,
    features: Path | None,
    table: TableOptions | None,
    quiet: bool,
    log: Callable[[str], None],
    parts: Parts | None,
    distributed: DistributedContext,
) -> dict[str, Any]:
    prompting = make_prompting(config, data, table)
    if parts is None:
        model = build_model(config, prompting=prompting, distributed=distributed)
        prepared = _prepare(model, config, data, skip_bad, features, table, not quiet, distributed)
    else:
        model = build_model(config, parts.base, prompting, distributed, parts.tower)
        prepared = question_task(model, config, parts.splits)
    task = prepared.task
    assert model.trained is not None
    trainer = Trainer(model, task, config, out, resume=resume, quiet=quiet, distributed=distributed)
    if distributed.is_main:
        write_json(out / "config.json", config.to_json())
    _log_start(log, config, model, prepared, distributed)
    for note in trainer.notes:
        log(note)
    try:
        trainer.run()
    except (KeyboardInterrupt, Stopped):
        log(f"stopped at step {trainer.progress.step}; the state is kept. Go on with the same command and --resume.")
        raise
    best = trainer.progress.best
    has_accuracy = isinstance(task, QuestionTask) and not task.explains_first
    result = {
        **({} if best is None else {"best_val_loss": -best[1]}),
        **({"best_val_accuracy": best[0]} if best and has_accuracy else {}),
        "trained_parameters": trained_parameters(model.trained),
        "steps": trainer.progress.step,
        "seconds": round(trainer.progress.seconds, 1),
        "examples": len(task.pids),
        "ranks": distributed.world_size,
        "steps_left_out": trainer.progress.skipped,
        "shortened": prepared.shortened,
        "skipped": prepared.skipped,
        **_table_facts(data, table),
    }
    if distributed.is_main:
        write_json(out / RUN_FILE, result)
    trainer.finish()
    return result


def _prepare(model: MultimodalLlama, *arguments: Any) -> PreparedTask:
    """Return the task that the model's prompting says; arguments as in ``prepare_questions``."""
    if isinstance(model.prompting, Prompting):
        return prepare_questions(model, *arguments)
    # Imported here: runs on questions do without it.
    from mm_adapter.training.prepare_conversations import conversation_task

    return conversation_task(model, *arguments)


def _table_facts(data: str, table: TableOptions | None) -> dict[str, Any]:
    """Return what was trained on, and what keeps evaluation from scoring rows of it: a lone file and its share."""
    if not os.path.isfile(data):
        return {"data": data}
    return {"data": data, "data_sha256": file_sha256(Path(data)), "val_share": (table or TableOptions()).val_share}


_STAGES = {
    **dict.fromkeys(("places", "projection", "visual query"), "vision"),
    **dict.fromkeys(("prompts", "gates", "scales", "tuning"), "language"),
}


def new_adapter(
    config: TrainingConfig, base: LoadedLlama, image_size: int = 0, pieces: tuple[int, ...] = ()
) -> Adapter:
    """Return the adapter that training under ``config`` begins with; what its stage does not train takes no gradient.

    Args:
        image_size, pieces: see ``adapter_config``.

    Raises:
        UserError: as ``adapter_config``; or there is nothing to start from.
    """
    adapter = Adapter(adapter_config(config, image_size, pieces), base.model.config, config.seed)
    if adapter.tuning is not None:
        adapter.tuning.start_from(base.model)
    if config.start_from != "none":
        start_from(
            adapter, adapter_folder(config.start_from), base.model.config, base.name, base.fingerprint, base.identity
        )
    for kind, members in adapter.parameter_groups().items():
        for parameter in members:
            parameter.requires_grad_(config.stage in ("all", _STAGES[kind]) or kind == "gates")
    return adapter


def build_model(
    config: TrainingConfig,
    base: LoadedLlama | None = None,
    prompting: Prompting | ConversationPrompting | None = None,
    distributed: DistributedContext = SINGLE_PROCESS,
    tower: ImageTower | None = None,
) -> MultimodalLlama:
    """Return the model of ``config`` with a fresh adapter, or with weights of its own to be trained.

    Args:
        base: an already loaded base model; read from ``config.llama`` otherwise.
        prompting: how questions or requests are put; by default that of questions under ``config``.
        distributed: the processes that share the work; on one host they share the frozen weights too.
        tower: an already loaded image tower; read as ``config`` says otherwise.

    Raises:
        UserError: something cannot be loaded, or the settings exclude each other.
    """
    device = distributed.device(config.device)
    check_device(device)
    if config.sharding != "none" and distributed.world_size == 1:
        raise UserError("sharding full: there is one process, and nothing to share; start several with torchrun.")
    prompting = prompting or make_prompting(replace(config, task="questions"), "")
    if base is None:
        dtype = getattr(torch, config.dtype)
        if distributed.world_size > 1 and config.quantization == "none" and not config.offload:
            base = load_shared(config.llama, dtype, distributed)
        else:
            base = load_llama(config.llama, dtype, device, config.quantization, config.offload)
    base.model.gradient_checkpointing = config.gradient_checkpointing
    if config.sharding != "none":
        # Imported here: it takes a second, and few runs need it.
        from mm_adapter.distributed.sharding import shard

        shard(base.model, torch.device(device).type)
    base.model.to(device)
    vision = vision_of(config)
    if not config.trains_adapter:
        settings = FinetuneConfig(config.method, config.lora_rank, config.lora_alpha)
        return MultimodalLlama(
            base, prompting=prompting, finetuned=prepare_finetuning(base.model, settings, config.seed)
        )
    model = MultimodalLlama(base, vision=vision, prompting=prompting, tower=tower)
    width, pieces = (0, ()) if vision is None else (model.tower.feature_size, model.tower.pieces)
    model.use_adapter(new_adapter(config, base, width, pieces).to(base.model.device))
    if vision is not None:
        model.vision_fingerprint = model.tower.fingerprint
    return model


def vision_of(config: TrainingConfig) -> VisionConfig | None:
    """Return which tower looks at pictures under ``config``, and how; None without pictures."""
    if config.vision == "none":
        return None
    views = tuple(view.strip() for view in config.views.split(","))
    return VisionConfig(config.vision, config.depths, views, "tokens" if config.image_prompts == "query" else "global")


def adapter_config(config: TrainingConfig, image_size: int, pieces: tuple[int, ...] = ()) -> AdapterConfig:
    """Return the shape of the adapter that is trained under ``config``.

    Args:
        image_size: width of the image features, 0 without pictures.
        pieces: widths of their parts, see ``ImageTower``.
    """
    shape = AdapterConfig(config.layers, config.prompt_length, config.attention, image_size, config.bottleneck)
    if config.method == "adapter-v2":
        shape = replace(shape, biases=True, output_scales=True, norms=True)
    if not image_size or config.image_prompts == "shared":
        return shape
    if config.image_prompts == "tiles":
        return replace(shape, image_prompts="tiles", image_pieces=pieces)
    width = config.query_width
    return replace(
        shape,
        image_prompts="query",
        query_width=width,
        query_blocks=config.query_blocks,
        query_heads=max(heads for heads in range(1, max(1, width // 64) + 1) if width % heads == 0),
        query_inner=4 * width,
    )


def _log_start(
    log: Callable[[str], None],
    config: TrainingConfig,
    model: MultimodalLlama,
    prepared: PreparedTask,
    distributed: DistributedContext,
) -> None:
    assert model.trained is not None
    if distributed.world_size > 1:
        log(f"{distributed.world_size} ranks share every batch of {config.batch_size}")
    trained = trained_parameters(model.trained)
    if prepared.summary:
        log(f"table: {prepared.summary}")
    log(f"{config.llama}: {count_frozen(model.llama):,} parameters frozen, {trained:,} trained")
    task, skipped = prepared.task, prepared.skipped
    shortened = sum(prepared.shortened.values())
    log(
        f"{len(task.pids)} to train on, {len(task.val_pids)} to validate; {shortened} shortened, {len(skipped)} skipped"
    )
    if model.vision is not None and not task.pictures:
        log(f"no example has a picture: {model.vision.tower} is not used; --vision none trains on text alone")
    if prepared.explained is not None and prepared.explained < len(task.pids):
        log(f"{prepared.explained} of them have an explanation; the others teach to answer without one")
    for pid, reason in list(skipped.items())[:5]:
        log(f"  skipped {pid}: {reason}")
    log(
        f"lr {config.lr:.2e} = base_lr {config.base_lr:g} x batch_size {config.batch_size} / 256; "
        f"gates x {config.gate_lr_scale:g}, projection x {config.projection_lr_scale:g}"
    )
