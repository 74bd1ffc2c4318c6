"""``mm-adapter probe``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.asking_options import AskingOptions
from mm_adapter.cli.options import (
    Count,
    Features,
    ModelOptions,
    Questions,
    Quiet,
    Seed,
    Several,
    SkipBad,
    Split,
    TableGroup,
    Value,
)

EXAMPLES = (
    "mm-adapter probe --adapter runs/first --data scienceqa --out runs/probes",
    "mm-adapter probe --adapter runs/first --data scienceqa --out runs/blank --probes blank gates --limit 300",
)


def probe(
    *,
    model: ModelOptions,
    asking: AskingOptions = AskingOptions(),  # noqa: B008 - frozen
    data: Questions,
    split: Split = None,
    table: TableGroup = TableGroup(),  # noqa: B008 - frozen
    out: Annotated[Path, Parameter(help="Write report, predictions and plots into this folder."), Value("FOLDER")],
    probes: Annotated[
        tuple[str, ...],
        Several,
        Parameter(
            help="Ask with these changes: blank, shuffled, none, blur, downscale, no-context, rotations, labels, "
            "gates, attention, neighbours; or all that apply.",
        ),
        Value("PROBE"),
    ] = ("all",),
    features: Features = None,
    seed: Annotated[
        Seed, Parameter(help="Draw the subset, shuffled pictures, rotations and intervals from this seed.")
    ] = 0,
    limit: Annotated[Count | None, Parameter(help="Probe this many questions, drawn by the seed; by default all.")] = (
        None
    ),
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Ask a split again with something changed, to see what the answers rest on."""
    from mm_adapter.data.table_files import check_source

    # Before torch is imported: a typing error costs no time.
    model.check()
    check_source(data)
    from mm_adapter.probing.choice import choose_probes
    from mm_adapter.probing.probes import probe as run_probes

    names = choose_probes(probes)  # before a model is loaded: a typing error costs no minute
    report = run_probes(
        model.load(asking),
        data,
        split,
        out,
        names,
        features=features,
        seed=seed,
        limit=limit,
        skip_bad=skip_bad,
        name=Path(model.adapter).name,
        quiet=quiet,
        table=table.options(),
    )
    print(report.to_text())
