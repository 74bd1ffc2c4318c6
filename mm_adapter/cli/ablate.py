"""``mm-adapter ablate``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mm_adapter.cli.options import Features, Questions, Quiet, Value

EXAMPLES = (
    "mm-adapter ablate demo --data questions --out runs/ablation",
    "mm-adapter ablate mine.toml --data scienceqa --out runs/grid --dry-run",
)
NOTES = ("The same command goes on where it was interrupted.",)


def ablate(
    grid: Annotated[
        str,
        Parameter(help="Run this grid: a TOML file, or one that comes with the package: demo, scienceqa."),
        Value("GRID"),
    ],
    /,
    *,
    data: Questions,
    out: Annotated[Path, Parameter(help="Write runs and tables into this folder."), Value("FOLDER")],
    features: Features = None,
    split: Annotated[Literal["val", "test"], Parameter(help="Answer the questions of this split.")] = "test",
    quiet: Quiet = False,
    dry_run: Annotated[bool, Parameter(help="List the runs, and do none.")] = False,
) -> None:
    """Run a grid of trainings that share what they can."""
    from mm_adapter.data.table_files import check_source

    check_source(data)  # before torch is imported: a typing error costs no time
    from mm_adapter.ablation.grid import read_grid
    from mm_adapter.ablation.run_grid import ablate as run_grid
    from mm_adapter.ablation.run_grid import check_all_ran, finished

    found = read_grid(grid)
    if dry_run:
        for point in found.points:
            done = finished(out, point, split) is not None
            print(f"{'finished' if done else 'to do':9} {point.name}")
        return
    report = run_grid(found, data, out, features, split, quiet)
    print(report.to_text(), end="")
    check_all_ran(report, out)
