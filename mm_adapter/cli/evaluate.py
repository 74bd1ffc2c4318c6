"""Options of ``mm-adapter evaluate``, and what it calls."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_adapter.cli.data_options import add_data_options
from mm_adapter.cli.model_options import add_asking_options, add_explaining_options, load_asked_model
from mm_adapter.cli.parser import add_command, natural
from mm_adapter.core.errors import UserError

if TYPE_CHECKING:
    from mm_adapter.distributed.context import DistributedContext


def add_evaluate(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.distributed.context import init_distributed

        with init_distributed(options.device) as distributed:
            options.device = distributed.device(options.device)
            text = _evaluated(options, distributed)
        if distributed.is_main:
            print(text)

    parser = add_command(commands, "evaluate", run, "Answer the questions of a split and report accuracy by class.")
    add_asking_options(parser)
    parser.add_argument("--split", default="test", help="train, val or test")
    parser.add_argument("--out", type=Path, required=True, help="folder for predictions and tables")
    parser.add_argument("--images", default="real", choices=("real", "none", "shuffled"), help="pictures to show")
    text = "how to answer; by default generate with an adapter that explains first, likelihood with others"
    parser.add_argument("--decoding", choices=("likelihood", "generate"), help=text)
    add_explaining_options(parser, "limit of an explanation: 128 after an answer, as in training before one")
    parser.add_argument("--features", type=Path, help="folder of the feature store")
    parser.add_argument("--seed", type=natural, default=0, help="of shuffled pictures")
    parser.add_argument("--image-folder", type=Path, help="pictures of conversations; beside their file by default")
    add_data_options(parser)


def _evaluated(options: argparse.Namespace, distributed: "DistributedContext") -> str:
    from mm_adapter.eval.official_report import notes, official_table, to_text
    from mm_adapter.inference.prompting import ConversationPrompting
    from mm_adapter.training.evaluation import evaluate, evaluate_responses

    name, model = Path(options.adapter).name, load_asked_model(options, distributed)
    data, split, out, features = options.data, options.split, options.out, options.features
    if isinstance(model.prompting, ConversationPrompting):
        usual = {"images": "real", "decoding": None, "skip_bad": False, "explain": False, "max_new_tokens": None}
        for option, value in usual.items():
            if getattr(options, option) != value:
                raise UserError(f"--{option.replace('_', '-')} is of questions; leave it out with conversations.")
        found = evaluate_responses(model, data, split, out, features, options.image_folder, options.quiet, distributed)
        perplexity = "beyond all numbers" if found["perplexity"] is None else f"{found['perplexity']:.2f}"
        return (
            f"{name}: loss per token {found['loss_per_token']:.4f}, perplexity {perplexity} "
            f"({found['conversations']} conversations, {found['response_tokens']} tokens of responses)"
        )
    metrics = evaluate(
        model,
        data,
        split,
        out,
        options.images,
        options.decoding,
        name,
        options.skip_bad,
        features,
        options.seed,
        options.quiet,
        distributed=distributed,
        explain=options.explain,
        max_new_tokens=options.max_new_tokens,
    )
    return f"{to_text(official_table({name: metrics.official}))}\n{notes(metrics)}"
