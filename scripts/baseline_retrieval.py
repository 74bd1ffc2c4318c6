"""Print the official table of the retrieval baseline: ``python scripts/baseline_retrieval.py --data DIR``.

The most similar training questions vote for the options (``eval.retrieval``); no language model, no picture, seconds.
"""

import argparse
import sys
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_json
from mm_adapter.data.readers import read_scienceqa
from mm_adapter.eval.metrics import evaluate_predictions
from mm_adapter.eval.official_report import notes, official_table, to_text, write_report
from mm_adapter.eval.predictions import write_predictions
from mm_adapter.eval.retrieval import NEIGHBOURS, retrieval_predictions

NAME = "TF-IDF retrieval"


def main(arguments: list[str] | None = None) -> int:
    """Run the script and return its exit status: 0, or 2 where the input is at fault."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Score the TF-IDF retrieval baseline.", allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="ScienceQA folder: problems.json, pid_splits.json")
    parser.add_argument("--split", default="test", help="what to answer, from the questions of train (default: test)")
    parser.add_argument("--neighbours", type=_positive, default=NEIGHBOURS, help=f"voters (default: {NEIGHBOURS})")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad questions out and count them as wrong")
    parser.add_argument("--out", type=Path, help="write predictions.jsonl, metrics.json, metrics.csv, report.md here")
    parser.add_argument("--json", type=Path, help="write the metrics to this file")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _run(options: argparse.Namespace) -> None:
    dataset = read_scienceqa(options.data, skip_bad=options.skip_bad)
    questions = dataset.split(options.split)
    predictions = retrieval_predictions(dataset.split("train"), questions, options.neighbours)
    metrics = evaluate_predictions(predictions, questions, dataset.skipped(options.split), source=NAME)
    if options.out:
        write_predictions(options.out / "predictions.jsonl", predictions)
        write_report(options.out, metrics, NAME)
    if options.json:
        write_json(options.json, metrics.to_json())
    print(to_text(official_table({NAME: metrics.official})) + notes(metrics))


if __name__ == "__main__":
    sys.exit(main())
