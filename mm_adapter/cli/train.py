"""``mm-adapter train``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mm_adapter.cli.options import DATA, ConfigFile, Features, Preset, Quiet, SkipBad, TableGroup, Value
from mm_adapter.cli.settings import Settings
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import DEFAULT_LLAMA, check_place, check_weights_file
from mm_adapter.training.checked import check_trackers
from mm_adapter.training.sources import refuse_other_task, resolve

EXAMPLES = (
    "mm-adapter train --preset smollm2 --data scienceqa --out runs/first",
    "mm-adapter train --config mine.yaml --layers 20 --data scienceqa --out runs/deep --resume auto",
    "mm-adapter train --preset alpaca-smollm2 --data alpaca.json --out runs/alpaca --dry-run",
)
NOTES = ("Settings come from defaults, --preset, --config and options; later ones win.",)


def train(
    *,
    data: Annotated[
        str | None,
        Parameter(
            help=f"Train on this: {DATA}; required save with --print-config.",
        ),
        Value("DATA"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(help="Write the run into this folder; required save with --print-config."),
        Value("FOLDER"),
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    resume: Annotated[
        tuple[Literal["must", "auto", "no"], ...] | None,
        Parameter(
            consume_multiple=(0, 1),
            help="Go on from the last state in --out. Without a value or with must: refuse a folder without a state. "
            "auto: begin anew there. no (default): begin anew.",
        ),
        Value("must|auto|no", ("choices: must, auto, no",)),
    ] = None,
    print_config: Annotated[
        bool, Parameter(help="Print every setting and where its value comes from, and do nothing else.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(help="Say what would be trained, on what and into which folder, and write nothing.")
    ] = False,
    features: Features = None,
    table: TableGroup = TableGroup(),  # noqa: B008 - frozen
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    settings: Settings = None,
) -> None:
    """Train an adapter as presets, config files and options say."""
    found = resolve(preset, config, settings)
    if print_config:
        print(found.to_text())
        return
    for name, value in (("--data", data), ("--out", out)):
        if value is None:
            raise UserError(f"{name} is required. See mm-adapter train --help.")
    assert data is not None
    assert out is not None
    resuming = "no" if resume is None else next(iter(resume), "must")
    from mm_adapter.data.readers import task_of

    # Before torch is imported: a typing error costs no time.
    refuse_other_task(found, task_of(data, found.config.task, table.options()))
    check_place(found.config.llama, [DEFAULT_LLAMA])
    check_weights_file(found.config.vision)
    check_trackers(found.config.log_to)
    if dry_run:
        from mm_adapter.planning.dry_run import describe_run

        print(describe_run(found.config, data, out, resuming, skip_bad, table.options()))
        return
    from mm_adapter.distributed import is_main_started
    from mm_adapter.training.run import train as train_run

    result = train_run(found.config, data, out, resuming, skip_bad, features, table.options(), quiet)
    if not is_main_started():
        return
    accuracy = f"accuracy {result['best_val_accuracy']:.2f} %, " if "best_val_accuracy" in result else ""
    print(f"{out}: best validation {accuracy}loss {result['best_val_loss']:.4f}")
