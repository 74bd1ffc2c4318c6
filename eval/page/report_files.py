"""One page of everything, and each of its tables and plots as files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_json, write_text
from mm_adapter.data.question import TableOptions
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.official_report import markdown_text, to_csv, to_markdown
from mm_adapter.eval.page.browser import browser_data
from mm_adapter.eval.page.content import BY, score_parts, score_plots
from mm_adapter.eval.page.page import Part, render_page
from mm_adapter.eval.page.plots import plot_losses
from mm_adapter.eval.page.probe_section import probe_parts
from mm_adapter.eval.scores import read_systems, remarks, score
from mm_adapter.eval.system import Reading, distinct, name_of

PAGE = "report.html"
METRICS_FILE = "metrics.jsonl"
"""Losses of a run, in its folder."""


def report(
    runs: Sequence[Path],
    data: str,
    out: Path,
    split: str | None = "test",
    names: Sequence[str] | None = None,
    training: Sequence[Path] = (),
    probes: Sequence[Path] = (),
    title: str = "ScienceQA report",
    reading: Reading | None = None,
    interval: str = "wilson",
    seed: int = 0,
    skip_bad: bool = False,
    explanations: str | None = None,
    table: TableOptions | None = None,
) -> Path:
    """Write ``report.html``, and ``tables/`` and ``plots/`` with each of its parts, into ``out``.

    Args:
        runs: folders of ``mm-adapter evaluate``, or files of predictions in any layout, of the same questions.
        data: what was asked, with pictures.
        training: run folders of ``mm-adapter train``, for their losses.
        probes: folders of ``mm-adapter probe``.
        reading: what to do with missing and unreadable answers.
        interval: wilson or skill; see ``mm_adapter.eval.scores.score``.
        explanations: score these too, against ``solution`` or ``lecture-solution``.
        table: how a table is taken.

    Returns:
        The page.

    Raises:
        UserError: something does not fit together or cannot be read; nothing is written then.
    """
    dataset = read_dataset(data, skip_bad=skip_bad, options=table)
    split = split or dataset.default_split
    files = [run / "predictions.jsonl" if run.is_dir() else run for run in runs]
    systems = read_systems(files, dataset, split, reading or Reading(), names)
    scores = score(systems, BY, interval, seed, explanations)
    parts, (classes, *others) = score_parts(scores), score_plots(scores)
    plots = [classes]
    if training:
        trained = distinct([name_of(folder) for folder in training])
        plots.append(plot_losses(dict(zip(trained, map(_events, training), strict=True))))
    for place, folder in enumerate(probes):
        more_parts, more_plots = probe_parts(folder, place)
        parts, plots = parts + more_parts, plots + more_plots
    plots += others
    browser, pictures = browser_data(systems[0].questions, systems)
    told = [f"Split {split}.", *remarks(scores)]
    if pictures.left_out:
        told.append(f"{len(pictures.left_out)} pictures are not shown ({next(iter(pictures.left_out.values()))}).")
    page = render_page(title, told, parts, plots, browser, pictures)
    for part in parts:
        _write_part(out / "tables", part)
    for plot in plots:
        plot.write_png(out / "plots" / f"{plot.name}.png")
    # Last, so that a page is never without the files beside it.
    write_text(out / PAGE, page)
    return out / PAGE


def _write_part(folder: Path, part: Part) -> None:
    header, *rows = part.table
    title, text = markdown_text(part.title), markdown_text(part.text)
    write_text(folder / f"{part.name}.md", f"## {title}\n\n{text}\n\n{to_markdown(part.table)}")
    write_text(folder / f"{part.name}.csv", to_csv(part.table))
    write_json(folder / f"{part.name}.json", {"title": part.title, "text": part.text, "header": header, "rows": rows})


def _events(folder: Path) -> list[dict[str, Any]]:
    path = folder / METRICS_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines if line.strip()]
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). Name a run folder of `mm-adapter train`."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this is not what `mm-adapter train` writes ({error!r}).") from None
    kept = [event for event in events if isinstance(event, dict) and isinstance(event.get("step"), int)]
    return [{key: value for key, value in event.items() if _is_plain(value)} for event in kept]


def _is_plain(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)
