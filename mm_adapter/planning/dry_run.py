"""What ``mm-adapter train --dry-run`` says: what would be trained, on what and into which folder."""

from pathlib import Path

from mm_adapter.core.files import check_place
from mm_adapter.data.question import TableOptions
from mm_adapter.data.readers import read_dataset, task_of
from mm_adapter.data.table_files import hub_name, is_easy_vqa
from mm_adapter.planning.image_costs import tower_shape
from mm_adapter.planning.parameters import count_parameters
from mm_adapter.planning.shapes import is_here, open_shape
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.folder import check_start


def describe_run(
    config: TrainingConfig,
    data: str,
    out: Path,
    resume: str,
    skip_bad: bool = False,
    table: TableOptions | None = None,
) -> str:
    """Return lines about a run; nothing is loaded, fetched or written.

    Args:
        config, data, out, resume, skip_bad, table: as ``train`` takes them.

    Raises:
        UserError: bad settings or data, or a folder that a run could not be written into.
    """
    start = check_start(out, resume, config)
    examples, counted, summary = _examples(config, data, skip_bad, table)
    lines = [f"data        {data}: {counted}"]
    lines += [f"table       {summary}"] if summary else []
    lines += [f"model       {config.llama}, {config.method}, {config.dtype}"]
    lines.append(f"parameters  {_parameters(config)}")
    lines.append(f"images      {'none' if config.vision == 'none' else f'{config.vision}, views {config.views}'}")
    if examples is not None:
        steps = -(-examples // config.batch_size)
        total = max(1, round(config.epochs * steps))
        lines.append(f"steps       {total:,} (batch {config.batch_size}), {steps:,} an epoch, {config.epochs:g} epochs")
    lines.append(f"lr          {config.lr:.2e}, on {config.device}")
    if start.result is not None:
        begins = "this run has come to its end already; nothing would be trained"
    else:
        begins = "goes on from the last state there" if start.resume else "begins anew"
    lines.append(f"output      {out}: {begins}")
    lines.append("nothing was trained or written")
    return "\n".join(lines)


def _parameters(config: TrainingConfig) -> str:
    """Return trained and frozen parameters by formula, or what has to be fetched or loaded before they are known."""
    if not is_here(config.llama):
        check_place(config.llama)
        return f"not known before {config.llama} is fetched"
    if config.vision.startswith("timm:"):
        return f"not known before {config.vision} is loaded"
    counts = count_parameters(open_shape(config.llama).config, config, tower_shape(config))
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in counts.trained.items())
    return f"{counts.total_trained:,} trained ({kinds}), {counts.frozen:,} frozen"


def _examples(
    config: TrainingConfig, data: str, skip_bad: bool, table: TableOptions | None
) -> tuple[int | None, str, str]:
    """Return how many examples there are to train on, where that can be told, a text about it, and about a table."""
    if hub_name(data) is not None:
        return None, "examples of the hub, counted when they are fetched", ""
    if is_easy_vqa(data):
        from mm_adapter.data.easy_vqa import WHEEL

        if not WHEEL.cached.is_file():
            return None, f"questions of {WHEEL.requirement}, counted when it is fetched", ""
    kind = task_of(data, config.task, table)
    if kind == "conversations":
        from mm_adapter.data.conversations import open_conversations

        found = open_conversations(data, table, skip_bad)
        splits, summary = {name: len(found.split(name)) for name in ("train", "val")}, found.summary
    else:
        dataset = read_dataset(data, skip_bad=skip_bad, options=table)
        splits, summary = {name: len(dataset.split(name)) for name in ("train", "val")}, dataset.summary
    return splits["train"], f"{splits['train']:,} {kind} to train on, {splits['val']:,} to validate", summary
