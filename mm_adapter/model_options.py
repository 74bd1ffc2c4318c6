"""Options that choose a model, the same for every subcommand that answers or writes."""

import argparse
from typing import Any

DTYPES = ("float32", "bfloat16", "float16")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--adapter``, ``--llama``, ``--dtype`` and ``--device``."""
    parser.add_argument("--adapter", required=True, help="run folder, or none for the base model")
    parser.add_argument("--llama", help="base model: the adapter's own by default")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of frozen weights")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")


def load_chosen_model(options: argparse.Namespace) -> Any:
    """Return the ``MultimodalLlama`` that the options name."""
    from mm_adapter.commands.evaluate import load_model

    return load_model(options.adapter, options.llama, options.dtype, options.device)
