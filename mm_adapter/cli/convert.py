"""Options of ``mm-adapter convert``."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.cli.parser import add_command


def add_convert(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.adapter.formats.conversion import convert

        convert(
            options.source,
            options.target,
            options.adapter,
            options.out,
            options.llama,
            options.layers,
            options.gate,
            options.qkv,
        )

    text = "Convert an adapter from or to the original V1 code, PEFT or litgpt; refused where something would be lost."
    parser = add_command(commands, "convert", run, text)
    formats = ("mm-adapter", "official", "peft", "litgpt")
    parser.add_argument("--from", dest="source", default="mm-adapter", choices=formats, help="format of --adapter")
    parser.add_argument("--to", dest="target", default="mm-adapter", choices=formats, help="format to write")
    parser.add_argument("--adapter", type=Path, required=True, help="folder or file of the adapter")
    parser.add_argument("--llama", help="base model; needed unless the adapter is of mm-adapter")
    parser.add_argument("--out", type=Path, required=True, help="folder for the converted adapter")
    parser.add_argument("--layers", type=int, help="layers of an official adapter; by default one for ten prompts")
    parser.add_argument(
        "--gate",
        choices=("tanh", "plain"),
        help="official: tanh (training code, default), plain (inference code)",
    )
    parser.add_argument(
        "--qkv",
        choices=("concatenated", "interleaved"),
        help="litgpt: concatenated (0.5.5 and later, default), interleaved (earlier)",
    )
