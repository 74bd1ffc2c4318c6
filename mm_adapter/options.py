"""Options of every subcommand, and what each one calls."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mm_adapter.ablation_options import add_ablate
from mm_adapter.config_options import add_config_options, natural, overrides
from mm_adapter.convert_options import add_convert
from mm_adapter.errors import UserError, suggestion
from mm_adapter.generate_options import add_chat, add_generate
from mm_adapter.leaderboard_options import add_leaderboard
from mm_adapter.model_options import add_asking_options, add_explaining_options, load_asked_model
from mm_adapter.plan_options import add_plan
from mm_adapter.probe_options import add_probe
from mm_adapter.report_options import add_report
from mm_adapter.score_options import add_score

if TYPE_CHECKING:
    from mm_adapter.ranks import Ranks

DATA_HELP = "ScienceQA folder (problems.json), parquet folder, hub id; to train also a file of conversations"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, with the nearest name suggested.

    Attributes:
        commands: the parser of each subcommand by name.
    """

    commands: dict[str, "Parser"]

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ``UserError``."""
        raise UserError(f"{message}. See {self.prog} --help.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        nearest = suggestion(str(value), known)
        raise argparse.ArgumentError(action, f"{value!r} is not known{nearest}; there are: {', '.join(known)}")


def parse(parser: Parser, arguments: list[str]) -> argparse.Namespace:
    """Parse ``arguments``; an unknown option is an error that names the nearest known one."""
    command = next((text for text in arguments if not text.startswith("-")), "")
    subparser = parser.commands.get(command)
    if subparser is not None:
        start = arguments.index(command)
        _refuse_unknown_options(parser, arguments[:start])
        _refuse_unknown_options(subparser, arguments[start + 1 :])
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(f"unexpected argument {unknown[0]!r}. See {options.parser.prog} --help.")
    return options


def _refuse_unknown_options(parser: Parser, arguments: list[str]) -> None:
    # Before argparse looks: it would complain of a required option that is missing, not of the one that was mistyped.
    known = [name for action in parser._actions for name in action.option_strings]
    for text in arguments:
        name = text.split("=")[0]
        if text == "--":
            return
        if name.startswith("--") and " " not in text and name not in known:
            raise UserError(f"unknown option {name}{suggestion(name, known)}. See {parser.prog} --help.")


def build_parser() -> Parser:
    """Return the parser of all subcommands; each sets ``run``, a function of the parsed options."""
    parser = Parser(
        prog="mm-adapter", description="Multimodal question answering with a frozen LLaMA.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for add in (
        _demo,
        _demo_data,
        _features,
        _train,
        add_plan,
        _evaluate,
        add_score,
        add_leaderboard,
        add_report,
        add_probe,
        add_ablate,
        _answer,
        add_generate,
        add_chat,
        _inspect,
        add_convert,
    ):
        add(commands)
    parser.commands = dict(commands.choices)
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> Parser:
    parser: Parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(run=run, parser=parser)
    return parser


def _demo(commands: Any) -> None:
    def run(options: argparse.Namespace) -> None:
        from mm_adapter.commands.demo import demo

        demo(options.out, options.preset, overrides(options), options.size, options.quiet)

    parser = _command(
        commands, "demo", run, "Train and compare adapters on a generated set: the whole method in minutes."
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="new folder for data, runs and summary.json")
    parser.add_argument("--size", type=int, help="questions to generate")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--preset", default="demo", help="preset name or TOML file")
    add_config_options(parser)


def _demo_data(commands: Any) -> None:
    def run(options: argparse.Namespace) -> None:
        from data.demo import write_demo

        size = {} if options.size is None else {"size": options.size}
        write_demo(options.out, seed=options.seed, **size)
        print(f"wrote {options.out}")

    parser = _command(commands, "demo-data", run, "Write the generated set in ScienceQA's official layout.")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--seed", type=natural, default=0, help="of the generator")
    parser.add_argument("--size", type=int, help="questions in all")


def _features(commands: Any) -> None:
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

    parser = _command(commands, "features", run, "Compute the image features of a dataset ahead of training.")
    parser.add_argument("--vision", required=True, help="open_clip name with weights, timm:NAME, or efficientnet-lite0")
    parser.add_argument("--depths", type=int, default=4, help="stages of the tower besides its final embedding")
    parser.add_argument("--views", default="own", help="own, 1x1, 2x2, 3x3, separated by commas")
    parser.add_argument("--out", type=Path, required=True, help="folder of the feature store")
    _data_options(parser)


def _train(commands: Any) -> None:
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

    parser = _command(commands, "train", run, "Train an adapter; every setting of a preset is an option.")
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
    _data_options(parser, device=False)
    add_config_options(parser)


def _evaluate(commands: Any) -> None:
    def run(options: argparse.Namespace) -> None:
        from mm_adapter.ranks import joined_ranks

        with joined_ranks(options.device) as ranks:
            options.device = ranks.device(options.device)
            text = _evaluated(options, ranks)
        if ranks.is_first:
            print(text)

    parser = _command(commands, "evaluate", run, "Answer the questions of a split and report accuracy by class.")
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
    _data_options(parser, device=False)


def _evaluated(options: argparse.Namespace, ranks: "Ranks") -> str:
    from eval.report import notes, official_table, to_text
    from mm_adapter.commands.evaluate import evaluate
    from mm_adapter.commands.evaluate_responses import evaluate_responses
    from mm_adapter.conversing import ConversationPrompting

    name, model = Path(options.adapter).name, load_asked_model(options, ranks)
    data, split, out, features = options.data, options.split, options.out, options.features
    if isinstance(model.prompting, ConversationPrompting):
        usual = {"images": "real", "decoding": None, "skip_bad": False, "explain": False, "max_new_tokens": None}
        for option, value in usual.items():
            if getattr(options, option) != value:
                raise UserError(f"--{option.replace('_', '-')} is of questions; leave it out with conversations.")
        found = evaluate_responses(model, data, split, out, features, options.image_folder, options.quiet, ranks)
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
        ranks=ranks,
        explain=options.explain,
        max_new_tokens=options.max_new_tokens,
    )
    return f"{to_text(official_table({name: metrics.official}))}\n{notes(metrics)}"


def _answer(commands: Any) -> None:
    def run(options: argparse.Namespace) -> None:
        model = load_asked_model(options)
        asked = (options.question, options.image, options.choices, options.context)
        answer = model.answer(*asked, options.max_new_tokens, options.explain)
        if options.json:
            choices = options.choices or []
            listed = [{"text": t, "probability": p} for t, p in zip(choices, answer.probabilities, strict=True)]
            told = {"explanation": answer.explanation} if answer.explanation else {}
            found = {"answer": answer.text, "choice": answer.choice, "choices": listed, **told}
            print(json.dumps(found, ensure_ascii=False))
            return
        print(answer.text)
        for index, (text, probability) in enumerate(zip(options.choices or [], answer.probabilities, strict=True)):
            print(f"  {'*' if index == answer.choice else ' '} {probability:6.1%}  {text}")
        if answer.explanation:
            print(f"because: {answer.explanation}")

    parser = _command(commands, "answer", run, "Answer one question, about a picture if one is named.")
    add_asking_options(parser)
    parser.add_argument("--image", type=Path, help="picture")
    parser.add_argument("--question", required=True, help="what is asked")
    parser.add_argument("--choices", nargs="+", help="options; without them the answer is written freely")
    parser.add_argument("--context", default="", help="text that goes with the question")
    add_explaining_options(
        parser, "limit of a free answer (64), or of an explanation (128; before an answer as trained)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def _inspect(commands: Any) -> None:
    def run(options: argparse.Namespace) -> None:
        from mm_adapter.commands.inspect import inspect

        found = inspect(options.name)
        print(json.dumps(found.to_json(), ensure_ascii=False) if options.json else found.to_text())

    parser = _command(commands, "inspect", run, "Say what a model, adapter or feature store is, and if it can be used.")
    parser.add_argument("name", metavar="PATH|NAME", help="file, folder, or name of a model")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def _data_options(parser: Parser, device: bool = True) -> None:
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad questions by name; they count as wrong")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    if device:
        parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")
