"""Options of ``mm-adapter ablate``."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.cli.parser import add_command


def add_ablate(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.ablation.grid import read_grid
        from mm_adapter.ablation.run_grid import ablate, check_all_ran, finished

        grid = read_grid(options.grid)
        if options.dry_run:
            for point in grid.points:
                done = finished(options.out, point, options.split) is not None
                print(f"{'finished' if done else 'to do':9} {point.name}")
            return
        report = ablate(grid, options.data, options.out, options.features, options.split, options.quiet)
        print(report.to_text(), end="")
        check_all_ran(report, options.out)

    text = "Run a grid of trainings that share what they can, and report it as the paper's ablation tables."
    parser = add_command(commands, "ablate", run, text, "The same command goes on where it was interrupted.")
    parser.add_argument(
        "grid", metavar="GRID", help="TOML file, or a grid that comes with the package: demo, scienceqa"
    )
    parser.add_argument("--data", required=True, help="ScienceQA folder (problems.json), parquet folder or hub id")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and tables")
    parser.add_argument("--features", type=Path, help="folder of the feature store")
    parser.add_argument("--split", default="test", choices=("val", "test"), help="whose questions are answered")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, and do none")
