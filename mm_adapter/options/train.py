"""Options of ``mm-adapter train`` and ``mm-adapter features``."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.options.config import add_config_options, overrides
from mm_adapter.options.data import add_data_options
from mm_adapter.options.parser import add_command


def add_features(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.commands.features import compute_features
        from mm_adapter.ranks import is_first_started
        from mm_adapter.vision import VisionConfig

        views = tuple(view.strip() for view in options.views.split(","))
        vision = VisionConfig(options.vision, options.depths, views)
        path, count, bad = compute_features(
            vision, options.data, options.out, options.skip_bad, options.device, options.quiet
        )
        if not is_first_started():
            return
        print(f"{path}: {count} features, {len(bad)} pictures skipped")
        for pid, reason in bad.items():
            print(f"  skipped {pid}: {reason}")

    parser = add_command(commands, "features", run, "Compute the image features of a dataset ahead of training.")
    parser.add_argument("--vision", required=True, help="open_clip name with weights, timm:NAME, or efficientnet-lite0")
    parser.add_argument("--depths", type=int, default=4, help="stages of the tower besides its final embedding")
    parser.add_argument("--views", default="own", help="own, 1x1, 2x2, 3x3, separated by commas")
    parser.add_argument("--out", type=Path, required=True, help="folder of the feature store")
    add_data_options(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")


def add_train(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.commands.train import train
        from mm_adapter.ranks import is_first_started
        from mm_adapter.training.config import load_config

        config = load_config(options.preset, overrides(options))
        features = options.features
        images = options.image_folder
        result = train(
            config, options.data, options.out, options.resume, options.skip_bad, features, images, options.quiet
        )
        if not is_first_started():
            return
        accuracy = f"accuracy {result['best_val_accuracy']:.2f} %, " if "best_val_accuracy" in result else ""
        print(f"{options.out}: best validation {accuracy}loss {result['best_val_loss']:.4f}")

    parser = add_command(commands, "train", run, "Train an adapter; every setting of a preset is an option.")
    parser.add_argument("--preset", help="preset name or TOML file")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="must",
        default="no",
        choices=("must", "auto", "no"),
        help="go on from the last state in --out; auto: where there is one",
    )
    parser.add_argument("--features", type=Path, help="folder of the feature store")
    parser.add_argument("--image-folder", type=Path, help="pictures of conversations; beside their file by default")
    add_data_options(parser)
    add_config_options(parser)
