"""Options that choose a model, the same for every subcommand that answers or writes."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mm_adapter.cli.parser import positive
from mm_adapter.core import QUANTIZATIONS
from mm_adapter.core.errors import UserError

if TYPE_CHECKING:
    from mm_adapter.distributed.context import DistributedContext
    from mm_adapter.model import MultimodalLlama

_MODEL = ("adapter", "llama", "dtype", "device", "quantization")
DTYPES = ("float32", "bfloat16", "float16")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--adapter``, ``--llama``, ``--dtype``, ``--device`` and ``--quantization``."""
    parser.add_argument("--adapter", required=True, help="run folder, or none for the base model")
    parser.add_argument("--llama", help="base model: the adapter's own by default")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of frozen weights")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")
    text = "of frozen matrices, less memory for more time; blocks: as they lie in a GGUF file"
    parser.add_argument("--quantization", default="none", choices=QUANTIZATIONS, help=text)


def load_chosen_model(options: argparse.Namespace) -> "MultimodalLlama":
    """Return the ``MultimodalLlama`` that the options name."""
    from mm_adapter.model import MultimodalLlama

    return MultimodalLlama.from_pretrained(**_chosen(options))


def add_asking_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that ask: which model, and how the base model is asked."""
    add_model_options(parser)
    parser.add_argument("--template", help="prompt template of the base model: QC-A, QCM-A, CQ-A or CQM-A")
    parser.add_argument("--answer-format", help="of the base model: text or letter")
    parser.add_argument("--ranking", help="of the base model: mean or sum")
    parser.add_argument("--chat", help="chat format of the base model: own, chatml, llama-2, llama-3, mistral or none")
    parser.add_argument("--wording", help="of conversations with the base model: alpaca, or a chat format")


def add_explaining_options(parser: argparse.ArgumentParser, limit: str) -> None:
    """Add ``--explain`` and ``--max-new-tokens``; ``limit`` says what the latter is of."""
    parser.add_argument(
        "--explain", action="store_true", help="have every choice explained; --max-new-tokens limits it"
    )
    parser.add_argument("--max-new-tokens", type=positive, help=limit)


def load_asked_model(options: argparse.Namespace, distributed: "DistributedContext | None" = None) -> "MultimodalLlama":
    """Load the model that the options name; imported late, since torch takes seconds.

    Args:
        distributed: the processes that all load it; this one alone by default.

    Raises:
        UserError: the options contradict one another, or the model cannot be loaded.
    """
    from mm_adapter.data.prompts import Prompting
    from mm_adapter.distributed.context import SINGLE_PROCESS
    from mm_adapter.inference.prompting import ConversationPrompting

    asked = _named(options, ("template", "answer_format", "ranking", "chat", "wording"))
    chosen = {name: value for name, value in asked.items() if value is not None}
    if chosen and options.adapter != "none":
        raise UserError(
            f"--{next(iter(chosen)).replace('_', '-')}: an adapter is asked as it was taught; leave it out."
        )
    prompting: Prompting | ConversationPrompting
    if options.wording is not None:
        if len(chosen) > 1:
            raise UserError("--wording is of conversations, the other options are of questions; give one kind.")
        prompting = ConversationPrompting(options.wording)
    else:
        prompting = Prompting(**chosen)
    from mm_adapter.model import MultimodalLlama

    return MultimodalLlama.from_pretrained(
        **_chosen(options), prompting=prompting, distributed=distributed or SINGLE_PROCESS
    )


def _named(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    return {**_named(options, _MODEL), "adapter": None if options.adapter == "none" else options.adapter}
