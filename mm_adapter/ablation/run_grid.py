"""``mm-adapter ablate``: a grid and a dataset become runs that share what they can, and the paper's tables of them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mm_adapter.ablation.grid import Grid, Point, point_name_before
from mm_adapter.ablation.result import PointResult, last_losses, read_result
from mm_adapter.ablation.shared_parts import SharedParts, base_key
from mm_adapter.ablation.summary import MARKDOWN_FILE, Report
from mm_adapter.adapter.checkpoint import load_adapter
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, write_json
from mm_adapter.data.conversations import is_conversations
from mm_adapter.data.readers import read_dataset
from mm_adapter.training.evaluation import answer_questions
from mm_adapter.training.run import build_model, train
from mm_adapter.training.state import check_settings

QUESTIONS_FILE = "questions.json"


def ablate(
    grid: Grid,
    data: str,
    out: Path,
    features: Path | None = None,
    split: str = "test",
    quiet: bool = False,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Report:
    """Run every point of a grid that is not finished yet, and write the tables after each.

    A point's folder is ``out``/runs/NAME: a run folder as ``train`` makes it, with predictions, tables and result.json
    of the split in a folder of that name. A run that was interrupted is gone on with. A point that fails by a
    ``UserError`` is named in the report, and the others are run all the same; the next call tries it again.

    Args:
        grid: see ``read_grid``.
        data: ScienceQA folder, parquet folder or hub id.
        out: gets runs/, questions.json, ablation.md, ablation.csv and ablation.json.
        features: folder of the feature store; the cache folder by default.
        split: ``val`` or ``test``, whose questions are answered.
        quiet: show no progress bars.
        log: receives lines for a person.

    Raises:
        UserError: bad data, or ``out`` holds an ablation of other questions or settings; nothing was run then.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("an ablation runs in one process; start it without torchrun, or its runs by mm-adapter train.")
    if is_conversations(data):
        raise UserError(f"{data}: holds conversations; ablations are of questions, whose right answers can be counted.")
    dataset = read_dataset(data)
    splits = list(dict.fromkeys(("train", "val", split)))
    shared = SharedParts(dataset, splits, grid.limits, features, progress=not quiet)
    _check_out(grid, out, shared.digests())
    used = {name: len(questions) for name, questions in shared.questions.items()}
    whole = {name: len(dataset.split(name)) for name in splits}
    results = {point.name: found for point in grid.points if (found := finished(out, point, split)) is not None}
    failed: dict[str, str] = {}

    def report() -> Report:
        ordered = tuple(results[point.name] for point in grid.points if point.name in results)
        written = Report(grid.name, split, used, whole, len(grid.points), ordered, dict(failed))
        written.write(out)
        return written

    current = report()
    waiting = [point for point in grid.points if point.name not in results]
    log(f"{grid.name}: {len(results)} of {len(grid.points)} runs are finished, {len(waiting)} to do")
    bases = list(dict.fromkeys(base_key(point.config) for point in grid.points))
    # Runs on the same base model one after another: one is loaded at a time.
    waiting.sort(key=lambda point: bases.index(base_key(point.config)))
    for place, point in enumerate(waiting, start=1):
        log(f"== {point.name} ({place} of {len(waiting)})")
        try:
            results[point.name] = run_point(point, data, run_folder(out, point), split, shared, quiet, log)
        except UserError as error:
            failed[point.name] = str(error)
            log(f"failed: {error}")
        current = report()
    return current


def run_folder(out: Path, point: Point) -> Path:
    """Return where a point's run lies; a run of version 0.1 keeps the folder that it was given."""
    folder, before = (out / "runs" / name for name in (point.name, point_name_before(point.values)))
    return before if before.is_dir() and not folder.is_dir() else folder


def finished(out: Path, point: Point, split: str) -> PointResult | None:
    """Return a point's result where it was run to its end and answered ``split``; else None.

    Raises:
        UserError: it was run with other settings.
    """
    return read_result(run_folder(out, point) / split, point.config.to_json())


def run_point(
    point: Point,
    data: str,
    folder: Path,
    split: str,
    shared: SharedParts,
    quiet: bool = False,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> PointResult:
    """Train one point, or go on with it; answer the split; write and return its result.

    Raises:
        UserError: the run cannot be brought to its end, or a loss is not finite there.
    """
    config, parts = point.config, shared.parts(point.config)
    trained = train(config, data, folder, resume="auto", quiet=quiet, log=log, parts=parts)
    train_loss, val_loss, val_accuracy = last_losses(folder)
    start = time.perf_counter()
    model = build_model(config, parts.base, tower=parts.tower)
    kept, _ = load_adapter(folder, parts.base.model.config)
    model.adapter = kept.to(parts.base.model.device)
    answered = folder / split
    metrics = answer_questions(model, parts.splits[split], shared.questions[split], {}, answered, name=point.name)
    result = PointResult(
        point.name,
        dict(point.values),
        config.to_json(),
        split,
        metrics.official,
        train_loss,
        val_loss,
        val_accuracy,
        trained["trained_parameters"],
        trained["seconds"],
        round(trained["seconds"] + time.perf_counter() - start, 1),
    )
    result.write(answered)
    log(f"{result.average:.2f} % of {split}, {result.seconds:.0f} seconds")
    return result


def _check_out(grid: Grid, out: Path, digests: dict[str, str]) -> None:
    """Refuse a folder whose runs are of other questions or settings, before anything is run."""
    path = out / QUESTIONS_FILE
    known = read_json(path, "digests of an ablation's questions") if path.is_file() else {}
    if not isinstance(known, dict):
        raise UserError(f"{path}: this is no list of digests; choose another --out.")
    for split, digest in digests.items():
        if known.get(split, digest) != digest:
            raise UserError(
                f"{out}: holds an ablation of other {split} questions; choose another --out, or name the same data and "
                "limits."
            )
    for point in grid.points:
        config = run_folder(out, point) / "config.json"
        if config.is_file():
            check_settings(config, read_json(config, "settings of the run"), point.config.to_json())
    write_json(path, {**known, **digests})


def check_all_ran(report: Report, out: Path) -> None:
    """Make a failed point known by the exit status, once the others are done.

    Raises:
        UserError: a point failed; names the first one and its reason.
    """
    if report.failed:
        name, reason = next(iter(report.failed.items()))
        raise UserError(
            f"{len(report.failed)} of {report.total} runs failed, {name}: {reason.rstrip('.')}. The others are in "
            f"{out / MARKDOWN_FILE}; the same command tries again."
        )
