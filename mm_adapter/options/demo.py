"""Options of ``mm-adapter demo`` and ``mm-adapter demo-data``."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.options.config import add_config_options, overrides
from mm_adapter.options.parser import add_command, natural


def add_demo(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.commands.demo import demo

        demo(options.out, options.preset, overrides(options), options.size, options.quiet)

    parser = add_command(
        commands, "demo", run, "Train and compare adapters on a generated set: the whole method in minutes."
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="new folder for data, runs and summary.json")
    parser.add_argument("--size", type=int, help="questions to generate")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--preset", default="demo", help="preset name or TOML file")
    add_config_options(parser)


def add_demo_data(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from data.demo import write_demo

        size = {} if options.size is None else {"size": options.size}
        write_demo(options.out, seed=options.seed, **size)
        print(f"wrote {options.out}")

    parser = add_command(commands, "demo-data", run, "Write the generated set in ScienceQA's official layout.")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--seed", type=natural, default=0, help="of the generator")
    parser.add_argument("--size", type=int, help="questions in all")
