"""Options of ``mm-adapter report``, and what it calls."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.options.parser import add_command
from mm_adapter.options.score import add_reading_options, reading_of

TEXT = "Write one page of HTML about runs: tables, plots, and every question with its answers."


def add_report(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_command(commands, "report", _run, TEXT)
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of evaluate, or predictions of any system"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for report.html, tables and plots")
    parser.add_argument("--training", type=Path, nargs="+", default=[], help="run folders of train, for their losses")
    parser.add_argument("--probes", type=Path, nargs="+", default=[], help="folders of probe")
    parser.add_argument("--title", default="ScienceQA report", help="of the page")
    add_reading_options(parser)


def _run(options: argparse.Namespace) -> None:
    from mm_adapter.commands.report import report

    page = report(
        options.runs,
        options.data,
        options.out,
        options.split,
        options.name,
        options.training,
        options.probes,
        options.title,
        reading_of(options),
        options.interval,
        options.seed,
        options.skip_bad,
        options.explanations,
    )
    print(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB)")
