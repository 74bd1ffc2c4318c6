"""Options of ``mm-adapter inspect``."""

import argparse
import json
from typing import Any

from mm_adapter.options.parser import add_command


def add_inspect(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.commands.inspect import inspect

        found = inspect(options.name)
        print(json.dumps(found.to_json(), ensure_ascii=False) if options.json else found.to_text())

    parser = add_command(
        commands, "inspect", run, "Say what a model, adapter or feature store is, and if it can be used."
    )
    parser.add_argument("name", metavar="PATH|NAME", help="file, folder, or name of a model")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
