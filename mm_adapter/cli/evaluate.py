"""``mm-adapter evaluate``."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from mm_adapter.cli.asking_options import AskingOptions, ExplainOptions
from mm_adapter.cli.options import DATA, Features, ModelOptions, Quiet, Seed, SkipBad, Split, TableGroup, Value
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
    data: Annotated[str, Parameter(help=f"Read questions or conversations from this place: {DATA}."), Value("DATA")],
    split: Split = None,
    table: TableGroup = TableGroup(),  # noqa: B008 - frozen
    out: Annotated[Path, Parameter(help="Write predictions and tables into this folder."), Value("FOLDER")],
    images: Annotated[
        Literal["real", "none", "shuffled"],
        Parameter(help="Show questions with their own picture, with none, or with that of another question."),
    ] = "real",
    decoding: Annotated[
        Literal["likelihood", "generate"] | None,
        Parameter(
            help="Answer by the likeliest option or by writing; by default generate for open questions and with an "
            "adapter that explains first, and likelihood for others.",
        ),
    ] = None,
    features: Features = None,
    seed: Annotated[Seed, Parameter(help="Shuffle pictures by this seed.")] = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Answer the questions of a split and report accuracy by class."""
    from mm_adapter.data.readers import task_of

    # Before torch is imported: a typing error costs no time.
    model.check()
    task = task_of(data, "auto", table.options())
    from mm_adapter.adapter.checkpoint import adapter_folder
    from mm_adapter.distributed import init_distributed
    from mm_adapter.inference.prompting import ConversationPrompting
    from mm_adapter.training.evaluation import held_out_share

    share = None if model.adapter == "none" else held_out_share(adapter_folder(model.adapter), data)
    options = table.options(share)
    if share is not None and split is None:
        split = "val"
        print(f"{model.adapter} was trained on {data}; the part that it held out is evaluated", file=sys.stderr)
    name = Path(model.adapter).name
    with init_distributed(model.device) as distributed:
        loaded = replace(model, device=distributed.device(model.device)).load(asking, distributed=distributed)
        shared: dict[str, Any] = {
            "features": features,
            "table": options,
            "quiet": quiet,
            "distributed": distributed,
            "skip_bad": skip_bad,
            "decoding": decoding,
            "max_new_tokens": explaining.max_new_tokens,
        }
        own = "conversations" if isinstance(loaded.prompting, ConversationPrompting) else "questions"
        if task != own:
            how = " The base model is asked requests with --prompt-template." if model.adapter == "none" else ""
            raise UserError(f"{data} holds {task}, and {name} is asked {own}. Give data of its kind.{how}")
        if own == "conversations":
            _refuse_options_of_questions(images=images != "real", explain=explaining.explain)
            text = _responses(loaded, name, data, split, out, shared)
        else:
            more = {"images": images, "name": name, "seed": seed, "explain": explaining.explain}
            text = _answers(loaded, name, data, split, out, shared | more)
    if distributed.is_main:
        print(text)


def _refuse_options_of_questions(**given: bool) -> None:
    for option, wanted in given.items():
        if wanted:
            raise UserError(f"--{option.replace('_', '-')} is of questions; leave it out with conversations.")


def _responses(model: Any, name: str, data: str, split: str | None, out: Path, options: dict[str, Any]) -> str:
    from mm_adapter.training.evaluation import evaluate_responses

    found = evaluate_responses(model, data, split, out, **options)
    perplexity = "beyond all numbers" if found["perplexity"] is None else f"{found['perplexity']:.2f}"
    lines = [
        f"{name}: loss per token {found['loss_per_token']:.4f}, perplexity {perplexity} "
        f"({found['conversations']} conversations, {found['response_tokens']} tokens of responses)"
    ]
    if "open_answers" in found:
        measured = {key: value for key, value in found["open_answers"].items() if key not in ("answers", "empty")}
        scores = ", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in measured.items())
        lines.append(f"{name}: {scores}")
    if found["skipped"]:
        lines.append(f"left out: {', '.join(found['skipped'])}")
    return "\n".join(lines)


def _answers(model: Any, name: str, data: str, split: str | None, out: Path, options: dict[str, Any]) -> str:
    from mm_adapter.eval.official_report import screen
    from mm_adapter.training.evaluation import evaluate as evaluate_questions

    metrics = evaluate_questions(model, data, split, out, **options)
    return screen(metrics, name)
