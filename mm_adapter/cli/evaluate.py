"""``mm-adapter evaluate``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from mm_adapter.cli.options import (
    DATA,
    AskingOptions,
    ExplainOptions,
    Features,
    ImageFolder,
    ModelOptions,
    Quiet,
    Seed,
    SkipBad,
    Split,
    Value,
)
from mm_adapter.core.errors import UserError

EXAMPLES = (
    "mm-adapter evaluate --adapter runs/first --data scienceqa --out runs/first/test",
    "mm-adapter evaluate --adapter none --template QCM-A --answer-format letter --data scienceqa --out runs/base",
    "mm-adapter evaluate --adapter runs/alpaca --data alpaca.json --split val --out runs/alpaca/val",
)


def evaluate(
    *,
    model: ModelOptions,
    asking: AskingOptions = AskingOptions(),  # noqa: B008 - frozen
    explaining: ExplainOptions = ExplainOptions(),  # noqa: B008 - frozen
    data: Annotated[
        str, Parameter(help=f"Read questions from this place: {DATA}; or conversations from a file."), Value("DATA")
    ],
    split: Split = "test",
    out: Annotated[Path, Parameter(help="Write predictions and tables into this folder."), Value("FOLDER")],
    images: Annotated[
        Literal["real", "none", "shuffled"],
        Parameter(help="Show questions with their own picture, with none, or with that of another question."),
    ] = "real",
    decoding: Annotated[
        Literal["likelihood", "generate"] | None,
        Parameter(
            help="Answer by the likeliest option or by writing; by default generate with an adapter that explains "
            "first, and likelihood with others."
        ),
    ] = None,
    features: Features = None,
    seed: Annotated[Seed, Parameter(help="Shuffle pictures by this seed.")] = 0,
    image_folder: ImageFolder = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Answer the questions of a split and report accuracy by class."""
    from mm_adapter.distributed import init_distributed
    from mm_adapter.inference.prompting import ConversationPrompting

    with init_distributed(model.device) as distributed:
        loaded = replace(model, device=distributed.device(model.device)).load(asking, distributed=distributed)
        name = Path(model.adapter).name
        if isinstance(loaded.prompting, ConversationPrompting):
            _refuse_options_of_questions(images=images != "real", decoding=decoding is not None, skip_bad=skip_bad)
            _refuse_options_of_questions(explain=explaining.explain, max_new_tokens=bool(explaining.max_new_tokens))
            text = _responses(loaded, name, data, split, out, features, image_folder, quiet, distributed)
        else:
            text = _answers(
                loaded,
                name,
                data,
                split,
                out,
                features,
                images,
                decoding,
                seed,
                skip_bad,
                quiet,
                distributed,
                explaining,
            )
    if distributed.is_main:
        print(text)


def _refuse_options_of_questions(**given: bool) -> None:
    for option, wanted in given.items():
        if wanted:
            raise UserError(f"--{option.replace('_', '-')} is of questions; leave it out with conversations.")


def _responses(
    model: Any,
    name: str,
    data: str,
    split: str,
    out: Path,
    features: Path | None,
    images: Path | None,
    quiet: bool,
    distributed: Any,
) -> str:
    from mm_adapter.training.evaluation import evaluate_responses

    found = evaluate_responses(model, data, split, out, features, images, quiet, distributed)
    perplexity = "beyond all numbers" if found["perplexity"] is None else f"{found['perplexity']:.2f}"
    return (
        f"{name}: loss per token {found['loss_per_token']:.4f}, perplexity {perplexity} "
        f"({found['conversations']} conversations, {found['response_tokens']} tokens of responses)"
    )


def _answers(
    model: Any,
    name: str,
    data: str,
    split: str,
    out: Path,
    features: Path | None,
    images: str,
    decoding: str | None,
    seed: int,
    skip_bad: bool,
    quiet: bool,
    distributed: Any,
    explaining: ExplainOptions,
) -> str:
    from mm_adapter.eval.official_report import notes, official_table, to_text
    from mm_adapter.training.evaluation import evaluate as evaluate_questions

    metrics = evaluate_questions(
        model,
        data,
        split,
        out,
        images,
        decoding,
        name,
        skip_bad,
        features,
        seed,
        quiet,
        distributed=distributed,
        explain=explaining.explain,
        max_new_tokens=explaining.max_new_tokens,
    )
    return f"{to_text(official_table({name: metrics.official}))}\n{notes(metrics)}"
