"""Options of ``mm-adapter probe``."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.cli.model_options import add_asking_options, load_asked_model
from mm_adapter.cli.parser import add_command, natural, positive


def add_probe(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.probing.choice import choose_probes
        from mm_adapter.probing.probes import probe

        names = choose_probes(options.probes)  # before a model is loaded: a typing error costs no minute
        report = probe(
            load_asked_model(options),
            options.data,
            options.split,
            options.out,
            names,
            features=options.features,
            seed=options.seed,
            limit=options.limit,
            skip_bad=options.skip_bad,
            name=Path(options.adapter).name,
            quiet=options.quiet,
        )
        print(report.to_text())

    text = "Ask a split again with pictures, contexts, options or labels changed, to see what the answers rest on."
    parser = add_command(commands, "probe", run, text)
    add_asking_options(parser)
    parser.add_argument("--data", required=True, help="ScienceQA folder (problems.json), parquet folder, hub id")
    parser.add_argument("--split", default="test", help="train, val or test")
    parser.add_argument("--out", type=Path, required=True, help="folder for report, predictions and pictures")
    names = "blank shuffled none blur downscale no-context rotations labels gates attention neighbours, or all"
    parser.add_argument("--probes", nargs="+", default=["all"], metavar="PROBE", help=f"{names} (that apply)")
    parser.add_argument("--features", type=Path, help="folder of the feature store; changed pictures are added to it")
    parser.add_argument("--seed", type=natural, default=0, help="of subset, shuffled pictures, rotations and intervals")
    parser.add_argument("--limit", type=positive, metavar="N", help="probe N questions, drawn by the seed")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad questions out of everything, by name")
    parser.add_argument("--quiet", action="store_true", help="no progress")
