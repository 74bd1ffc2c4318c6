"""``mm-adapter features``: the image features of a whole dataset, ahead of training."""

import argparse
from pathlib import Path
from typing import Any

from mm_adapter.cli.config_options import add_config_options, overrides
from mm_adapter.cli.data_options import add_data_options
from mm_adapter.cli.parser import add_command
from mm_adapter.data.readers import read_dataset
from mm_adapter.distributed.context import check_device, init_distributed
from mm_adapter.vision import ImageTower, VisionConfig
from mm_adapter.vision.features import FeatureStore, extract_features


def add_features(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        pass
        from mm_adapter.distributed.context import is_main_started
        from mm_adapter.vision import VisionConfig

        views = tuple(view.strip() for view in options.views.split(","))
        vision = VisionConfig(options.vision, options.depths, views)
        path, count, bad = compute_features(
            vision, options.data, options.out, options.skip_bad, options.device, options.quiet
        )
        if not is_main_started():
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
        from mm_adapter.distributed.context import is_main_started
        from mm_adapter.training.config import load_config
        from mm_adapter.training.run import train

        config = load_config(options.preset, overrides(options))
        features = options.features
        images = options.image_folder
        result = train(
            config, options.data, options.out, options.resume, options.skip_bad, features, images, options.quiet
        )
        if not is_main_started():
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


def compute_features(
    vision: VisionConfig, data: str, out: Path, skip_bad: bool = False, device: str = "cpu", quiet: bool = False
) -> tuple[Path, int, dict[str, str]]:
    """Compute or complete the feature store of every picture in a dataset.

    Returns:
        The store's file, how many features it holds, and pid -> reason of pictures that could not be read.

    Raises:
        UserError: bad data, an unknown tower, or a bad picture without ``skip_bad``.
    """
    with init_distributed(device) as distributed:
        device = distributed.device(device)
        check_device(device)
        dataset = read_dataset(data, skip_bad=skip_bad)
        tower = ImageTower(vision, device)
        questions = [question for question in dataset.questions if question.image is not None]
        images = [question.image for question in questions if question.image is not None]
        progress = not quiet and distributed.is_main
        _, bad = extract_features(tower, images, out, skip_bad=skip_bad, progress=progress, distributed=distributed)
    store = FeatureStore(out, tower)
    reasons = {question.pid: bad[question.image] for question in questions if question.image in bad}
    return store.path, len(store.features), reasons
