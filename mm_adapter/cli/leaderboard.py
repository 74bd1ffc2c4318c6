"""``mm-adapter leaderboard``: published results and the user's runs in one table; verified runs are kept in a file."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_adapter.cli.parser import add_command, positive
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_json, write_text
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.leaderboard.board import Entry, add_entry, make_entry, read_board
from mm_adapter.eval.leaderboard.published import published_rows
from mm_adapter.eval.leaderboard.ranked_tables import apart_table, leaderboard_table, plot_tuned
from mm_adapter.eval.leaderboard.ranking import Ranked, ranked
from mm_adapter.eval.leaderboard.submission import Run, read_run
from mm_adapter.eval.official_report import to_csv, to_markdown

TEXT = "Rank published results and your runs; `leaderboard add RUN` verifies a run and keeps it."


def add_leaderboard(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_command(commands, "leaderboard", _run, TEXT)
    parser.add_argument("action", nargs="*", metavar="add RUN", help="run folder of evaluate, or file of predictions")
    parser.add_argument("--board", type=Path, default=Path("leaderboard.jsonl"), help="file of verified runs")
    parser.add_argument("--data", help="ScienceQA folder, parquet folder or hub id: the questions that runs answered")
    shown = parser.add_argument_group("showing")
    shown.add_argument("--runs", type=Path, nargs="+", default=[], help="show these too, without keeping them")
    shown.add_argument("--split", default="test", help="of --runs that do not say; other than test is not ranked")
    shown.add_argument(
        "--sort", default="Avg", help="Avg, NAT, SOC, LAN, TXT, IMG, NO, G1-6, G7-12, tuned, date, model"
    )
    shown.add_argument("--filter", nargs="+", default=[], help="words that model, method or source must have")
    shown.add_argument("--learning", help="Fine-tune, Few-shot or Zero-shot")
    shown.add_argument("--classes", action="store_true", help="all nine columns")
    shown.add_argument("--limit", type=positive, help="rows to print")
    shown.add_argument("--out", type=Path, help="write leaderboard.md, .csv, .json and .png into this folder")
    added = parser.add_argument_group("adding")
    added.add_argument("--name", help="of the run; its folder's by default")
    added.add_argument("--method", default="", help="VLM, LLM, ...")
    added.add_argument("--learning-of-run", default="Fine-tune", help="Fine-tune, Few-shot or Zero-shot")
    added.add_argument("--size", default="", help="parameters of the whole model: 7B")
    added.add_argument("--tuned", help="trained parameters, as 1.8M; the run's own by default")
    added.add_argument("--link", default="", help="where it is published")
    added.add_argument("--date", default="", help="YYYY-MM-DD; today by default")


def _run(options: argparse.Namespace) -> None:
    action = options.action
    if not action:
        if options.data is not None and not options.runs:
            raise UserError("--data is of --runs and of `add`; leave it out.")
        _show(options)
    elif action[0] == "add" and len(action) == 2:
        _add(options, Path(action[1]))
    else:
        raise UserError(f"leaderboard {' '.join(action)}: there is `leaderboard` and `leaderboard add RUN`.")


def _add(options: argparse.Namespace, run: Path) -> None:
    from mm_adapter.eval.leaderboard.row import parameters

    pass

    if options.data is None:
        raise UserError("leaderboard add needs --data: the questions that the run answered.")
    facts = {"method": options.method, "learning": options.learning_of_run, "size": options.size}
    tuned = None if options.tuned is None else parameters(options.tuned)
    entry = add_run(
        run, options.data, options.board, options.name, **facts, tuned=tuned, source=options.link, date=options.date
    )
    if not entry.recorded:
        print("The run does not say which answers it was held against (evaluation.json): they are not verified.")
    print(f"{options.board}: added {entry.model}, {entry.accuracies['Avg']:.2f} % of {len(entry.outcomes)} questions")


def _show(options: argparse.Namespace) -> None:
    from mm_adapter.eval.leaderboard.ranked_tables import apart_table, leaderboard_table, selected
    from mm_adapter.eval.official_report import to_text

    pass

    found = leaderboard(options.board, options.runs, options.data, options.split)
    rows = selected(found.rows, options.sort, options.filter, options.learning)
    if options.out is not None:
        write_leaderboard(options.out, rows, found.apart)
    shown = rows if options.limit is None else rows[: options.limit]
    print(to_text(leaderboard_table(shown, options.classes)), end="")
    print(f"\n{len(shown)} of {len(found.rows)} rows; ranks are among all of them, by the average.")
    if found.apart:
        print(f"\n{to_text(apart_table(found.apart))}", end="")


@dataclass(frozen=True)
class Leaderboard:
    """Ranked rows, and the runs that must stand apart from them."""

    rows: list[Ranked]
    apart: list[Run]


def add_run(path: Path, data: str, board: Path, name: str | None, **facts: Any) -> Entry:
    """Verify a run and append it to a board.

    Args:
        path: folder of ``mm-adapter evaluate``, or file of predictions in any layout.
        data: ScienceQA with the official test split.
        board: file; made where there is none.
        name: of the run in tables.
        facts: method, learning, size, tuned, source, date; see ``mm_adapter.eval.leaderboard.board.make_entry``.

    Raises:
        UserError: the run is not one of the official test split, or is there already; the board is then unchanged.
    """
    entry = make_entry(read_run(path, read_dataset(data), name=name), **facts)
    add_entry(board, entry)
    return entry


def leaderboard(
    board: Path, runs: Sequence[Path] = (), data: str | None = None, split: str = "test", published: Path | None = None
) -> Leaderboard:
    """Return published rows, the board's entries and some runs: ranked, or apart where they must not be.

    Raises:
        UserError: a file cannot be read, or runs are named without data to hold them against.
    """
    rows = published_rows(published) + [entry.to_row() for entry in read_board(board)]
    apart: list[Run] = []
    if runs and data is None:
        raise UserError("--runs needs --data: the questions that were answered.")
    if data is not None and runs:
        dataset = read_dataset(data)
        for path in runs:
            run = read_run(path, dataset, split)
            if run.apart:
                apart.append(run)
            else:
                row = make_entry(run).to_row()
                # A run that the board holds already is the same row, not another one.
                rows += [] if any(row.outcomes == other.outcomes for other in rows) else [row]
    return Leaderboard(ranked(rows), apart)


def write_leaderboard(folder: Path, rows: Sequence[Ranked], apart: Sequence[Run]) -> None:
    """Write ``leaderboard.md``, ``.csv``, ``.json`` and ``.png`` into ``folder``, each atomically.

    Raises:
        UserError: a file cannot be written.
    """
    table = leaderboard_table(rows, classes=True)
    parts = ["# ScienceQA leaderboard\n", "Accuracy in percent on the official test split (4,241 questions).\n"]
    parts.append(to_markdown(table))
    if apart:
        parts += ["## Not ranked\n", to_markdown(apart_table(apart))]
    write_text(folder / "leaderboard.md", "\n".join(parts))
    write_text(folder / "leaderboard.csv", to_csv(table))
    write_json(folder / "leaderboard.json", {"rows": [_values(one) for one in rows], "apart": _apart_values(apart)})
    plot_tuned(rows, folder / "leaderboard.png")


def _values(one: Ranked) -> dict[str, Any]:
    row = one.row
    interval = None if one.interval is None else [one.interval.low, one.interval.high]
    facts = {"model": row.model, "method": row.method, "learning": row.learning, "size": row.size, "tuned": row.tuned}
    published = {"source": row.source, "date": row.date, "is_run": row.outcomes is not None}
    return {
        "rank": one.rank, **facts, **published, "accuracies": dict(row.accuracies), "interval": interval,
        "verdicts": one.verdicts,
    }  # fmt: skip


def _apart_values(runs: Sequence[Run]) -> list[dict[str, Any]]:
    return [
        {
            "model": run.system.name,
            "split": run.split,
            "questions": len(run.system.questions),
            "official": run.system.metrics.official,
            "reason": run.apart,
        }
        for run in runs
    ]
