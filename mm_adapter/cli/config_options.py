"""Options that are keys of a preset: one for every setting of a training run."""

import argparse
from typing import Any


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for every key of ``TrainingConfig``."""
    from mm_adapter.training.config import TrainingConfig, config_types

    group = parser.add_argument_group("settings (keys of the preset)")
    defaults = TrainingConfig()
    for name, kind in config_types().items():
        convert: Any = _boolean if kind is bool else kind
        text = f"default without a preset: {getattr(defaults, name)}"
        group.add_argument(f"--{name.replace('_', '-')}", type=convert, metavar="VALUE", help=text)


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options."""
    from mm_adapter.training.config import config_types

    return {name: getattr(options, name) for name in config_types() if getattr(options, name) is not None}


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
