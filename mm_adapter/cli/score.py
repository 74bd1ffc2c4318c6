"""Options of ``mm-adapter score``, and what it calls."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_adapter.cli.parser import Parser, add_command, natural

if TYPE_CHECKING:
    from mm_adapter.eval.system import Reading

TEXT = "Score predictions of any system, with intervals; compare several."
LAYOUTS = "our JSON lines, official result file, LLaVA's answers.jsonl, or lmms-eval's samples; several to compare them"


def add_score(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_command(commands, "score", _run, TEXT)
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help=LAYOUTS)
    parser.add_argument(
        "--by",
        nargs="+",
        default=[],
        help="tables besides the official one: subject, context, grade-band, topic, category, skill, grade, options, "
        "context-length, lecture; crossed: 'subject*context'",
    )
    add_reading_options(parser)
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--out", type=Path, help="write scores.md, scores.csv and scores.json into this folder")
    parser.add_argument("--quiet", action="store_true", help="accepted for uniformity; scoring shows no progress")


def add_reading_options(parser: Parser) -> None:
    """Add what says which questions predictions answer, and how they are taken."""
    parser.add_argument("--name", nargs="+", help="of each system in the tables; the files' by default")
    parser.add_argument("--data", required=True, help="ScienceQA folder (problems.json), parquet folder or hub id")
    parser.add_argument("--split", default="test", help="train, val or test")
    parser.add_argument(
        "--interval",
        default="wilson",
        choices=("wilson", "skill"),
        help="wilson, or a bootstrap that draws whole skills, whose questions are alike",
    )
    parser.add_argument(
        "--on-unparseable",
        default="wrong",
        choices=("wrong", "random"),
        help="answers that cannot be read: wrong, or drawn at random as other projects do (and said so)",
    )
    parser.add_argument(
        "--missing",
        default="refuse",
        choices=("refuse", "wrong", "leave-out"),
        help="questions without prediction: an error, wrong, or left out (a subset, and said so)",
    )
    parser.add_argument(
        "--explanations",
        nargs="?",
        const="solution",
        choices=("solution", "lecture-solution"),
        help="score explanations too: against the solution, or lecture and solution as in the dataset's paper",
    )
    parser.add_argument("--seed", type=natural, default=0, help="of bootstraps and of drawn answers")
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad questions by name; they count as wrong")


def reading_of(options: argparse.Namespace) -> "Reading":
    """Return how predictions are to be taken."""
    from mm_adapter.eval.system import Reading

    return Reading(options.missing, options.on_unparseable, options.seed)


def _run(options: argparse.Namespace) -> None:
    from mm_adapter.core.files import write_json
    from mm_adapter.data.readers import read_dataset
    from mm_adapter.eval.scores import read_systems, score, to_screen, to_values, write_scores

    dataset = read_dataset(options.data, skip_bad=options.skip_bad)
    systems = read_systems(options.predictions, dataset, options.split, reading_of(options), options.name)
    scores = score(systems, options.by, options.interval, options.seed, options.explanations)
    if options.json is not None:
        write_json(options.json, to_values(scores))
    if options.out is not None:
        write_scores(options.out, scores)
    print(to_screen(scores))
