"""Options of ``mm-adapter leaderboard``, and what it calls."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.errors import UserError
from mm_adapter.options.parser import add_command, positive

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
    from eval.leaderboard.row import parameters
    from mm_adapter.commands.leaderboard import add_run

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
    from eval.leaderboard.tables import apart_table, leaderboard_table, selected
    from eval.report import to_text
    from mm_adapter.commands.leaderboard import leaderboard, write_leaderboard

    found = leaderboard(options.board, options.runs, options.data, options.split)
    rows = selected(found.rows, options.sort, options.filter, options.learning)
    if options.out is not None:
        write_leaderboard(options.out, rows, found.apart)
    shown = rows if options.limit is None else rows[: options.limit]
    print(to_text(leaderboard_table(shown, options.classes)), end="")
    print(f"\n{len(shown)} of {len(found.rows)} rows; ranks are among all of them, by the average.")
    if found.apart:
        print(f"\n{to_text(apart_table(found.apart))}", end="")
