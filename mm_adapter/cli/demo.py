"""``mm-adapter demo``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import ConfigFile, Count, Preset, Quiet, Value
from mm_adapter.cli.settings import Settings
from mm_adapter.core.files import DEFAULT_LLAMA, check_place
from mm_adapter.training.sources import resolve

EXAMPLES = ("mm-adapter demo", "mm-adapter demo --out try --size 600 --epochs 1")


def demo(
    *,
    out: Annotated[
        Path, Parameter(help="Write data, runs and summary.json into this new folder."), Value("FOLDER")
    ] = Path("demo"),
    size: Annotated[
        Count | None, Parameter(help="Generate this many questions; by default the generator's number.")
    ] = None,
    quiet: Quiet = False,
    preset: Preset = "demo",
    config: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Train and compare adapters on a generated set."""
    found = resolve(preset, config, settings)
    check_place(found.config.llama, [DEFAULT_LLAMA])
    from mm_adapter.training.demonstration import demo as run_demo

    run_demo(out, found.config, size, quiet)
