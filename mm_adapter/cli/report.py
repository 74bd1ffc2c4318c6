"""``mm-adapter report``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import ReadingOptions, Several, TableGroup, Value

EXAMPLES = (
    "mm-adapter report runs/first/test runs/base --data scienceqa --out report",
    "mm-adapter report runs/first/test --data scienceqa --out report --training runs/first --probes runs/probes",
)


def report(
    *runs: Annotated[
        Path,
        Parameter(help="Show these: folders of evaluate, or predictions of any system.", required=True),
        Value("RUN"),
    ],
    out: Annotated[
        Path, Parameter(help="Write report.html, its tables and its plots into this folder."), Value("FOLDER")
    ],
    training: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Draw the losses of these run folders of train."),
        Value("FOLDER"),
    ] = (),
    probes: Annotated[
        tuple[Path, ...], Several, Parameter(help="Show the probes in these folders of probe."), Value("FOLDER")
    ] = (),
    title: Annotated[str, Parameter(help="Give the page this title.")] = "ScienceQA report",
    reading: ReadingOptions,
    table: TableGroup = TableGroup(),  # noqa: B008 - frozen
) -> None:
    """Write one page of HTML about runs."""
    from mm_adapter.eval.page.report_files import report as write_page

    page = write_page(
        runs,
        reading.data,
        out,
        reading.split,
        reading.name,
        training,
        probes,
        title,
        reading.reading(),
        reading.interval,
        reading.seed,
        reading.skip_bad,
        reading.reference,
        table.options(),
    )
    print(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB)")
