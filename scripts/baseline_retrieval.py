"""Print the official table of the retrieval baseline: ``python scripts/baseline_retrieval.py --data DIR``.

The most similar training questions vote for the options (``eval.retrieval``); no language model, no picture, seconds.
With ``--pictures`` a second row tells questions that have a picture by features of an image tower too; what these weigh
beside words, and how many neighbours vote, is chosen on val alone and printed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import cache_folder, write_json
from mm_adapter.data.question import Question
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.metrics import evaluate_predictions
from mm_adapter.eval.official_report import notes, official_table, to_text, write_report
from mm_adapter.eval.predictions import write_predictions
from mm_adapter.eval.record import Prediction
from mm_adapter.eval.retrieval import NEIGHBOURS, PICTURE_GRID, Features, PictureRetrieval, retrieval_predictions

NAME = "TF-IDF retrieval"
PICTURES = "the same with pictures"


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
    add = parser.add_argument
    add("--data", required=True, help="ScienceQA folder (problems.json, pid_splits.json), table, or easy-vqa")
    add("--split", nargs="+", default=["test"], help="what to answer, from the questions of train (default: test)")
    add("--neighbours", type=_positive, default=NEIGHBOURS, help=f"voters by words (default: {NEIGHBOURS})")
    add("--pictures", action="store_true", help="add a row that looks at pictures too, as val chooses")
    add("--vision", default="efficientnet-lite0", help="image tower (default: efficientnet-lite0)")
    add("--views", default="1x1", help="how it is shown pictures: own, 1x1, 2x2, 3x3, by commas (default: 1x1)")
    add("--features", type=Path, help="keep image features in this folder (default: in the cache folder)")
    add("--skip-bad", action="store_true", help="leave bad questions out and count them as wrong")
    add(
        "--out",
        type=Path,
        help="write predictions.jsonl, metrics.json, metrics.csv, report.md here (words alone: in words/)",
    )
    add("--json", type=Path, help="write the metrics to this file; with pictures, those by words alone under `words`")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _run(options: argparse.Namespace) -> None:
    dataset = read_dataset(options.data, skip_bad=options.skip_bad)
    questions = list({question.pid: question for name in options.split for question in dataset.split(name)}.values())
    skipped = {pid: reason for name in options.split for pid, reason in dataset.skipped(name).items()}
    train = dataset.split("train")
    found = {NAME: retrieval_predictions(train, questions, options.neighbours)}
    chosen: dict[str, Any] = {}
    if options.pictures:
        found[PICTURES], chosen = _by_pictures(train, dataset.split("val"), questions, options)
    metrics = {name: evaluate_predictions(own, questions, skipped, source=name) for name, own in found.items()}
    # What was asked for stands at the top, what it is compared with below.
    asked = PICTURES if options.pictures else NAME
    if options.out:
        for name, own in found.items():
            folder = options.out if name == asked else options.out / "words"
            write_predictions(folder / "predictions.jsonl", own)
            write_report(folder, metrics[name], name)
    if options.json:
        words = {"words": metrics[NAME].to_json()} if options.pictures else {}
        write_json(options.json, {**metrics[asked].to_json(), **chosen, **words})
    print(to_text(official_table({name: own.official for name, own in metrics.items()})) + notes(metrics[NAME]))
    if options.pictures:
        print(
            f"Pictures by {chosen['vision']}, views {chosen['views']}: weight {chosen['weight']:g} beside words, "
            f"{chosen['neighbours']} neighbours; best of {len(PICTURE_GRID)} on val's {chosen['val_questions']} "
            f"questions with a picture ({chosen['val_accuracy']:.2f})."
        )


def _by_pictures(
    train: Sequence[Question], val: Sequence[Question], questions: Sequence[Question], options: argparse.Namespace
) -> tuple[list[Prediction], dict[str, Any]]:
    """Return predictions that look at pictures, and how val chose to count these."""
    train_features, val_features, features = _features([train, val, questions], options)
    retrieval = PictureRetrieval(train, train_features)
    vote, shares = retrieval.choose(val, val_features)
    tried = [
        {"weight": one.weight, "neighbours": one.neighbours, "val_accuracy": round(100 * share, 2)}
        for one, share in zip(PICTURE_GRID, shares, strict=True)
    ]
    chosen = {
        "vision": options.vision,
        "views": options.views,
        **tried[PICTURE_GRID.index(vote)],
        "val_questions": sum(own is not None for own in val_features),
        "grid": tried,
    }
    return retrieval.predictions(questions, features, vote, options.neighbours), chosen


def _features(groups: Sequence[Sequence[Question]], options: argparse.Namespace) -> list[Features]:
    """Return the features of every group's questions; a bad picture that may be skipped counts as none."""
    # Imported here: words alone need no torch.
    from mm_adapter.vision import ImageTower, VisionConfig
    from mm_adapter.vision.features import extract_features

    tower = ImageTower(VisionConfig(options.vision, views=tuple(view.strip() for view in options.views.split(","))))
    images = [question.image for group in groups for question in group if question.image is not None]
    store = options.features or cache_folder() / "features"
    found, _ = extract_features(tower, images, store, skip_bad=options.skip_bad)
    by_image = {image: feature.numpy() for image, feature in found.items()}
    return [[None if q.image is None else by_image.get(q.image) for q in group] for group in groups]


if __name__ == "__main__":
    sys.exit(main())
