"""What pictures are worth on real questions: a preset trained with and without them, and retrieval beside it.

    python scripts/check_pictures.py --data DIR --out DIR [--preset smollm2] [--seeds 0 1 2] [--json FILE]

Each run is trained by ``mm-adapter train`` and answers the validation and test questions by ``mm-adapter evaluate``, in
processes of their own. What is finished in ``--out`` is not done again: the same command goes on after an interruption.
Compared are the accuracies on the questions with a picture of both splits together (IMG), mean over seeds, the
difference with its bootstrap interval by question; the average over all test questions; and the vote of similar
questions and pictures, by ``scripts/baseline_retrieval.py --pictures``.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean

from bars import bar, write_bars

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.data.readers import read_scienceqa
from mm_adapter.eval.intervals import bootstrapped

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("val", "test")
GAIN, OVER_RETRIEVAL, AVERAGE, MINUTES = 5.0, 2.0, 70.75, 60.0


def run(command: list[str]) -> None:
    """Run a command from the top of the checkout; what it says goes to stderr."""
    if subprocess.run([sys.executable, *command], cwd=ROOT, stdout=sys.stderr, check=False).returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed; its message stands above.")


def train_and_answer(out: Path, options: argparse.Namespace, seed: int, pictures: bool) -> None:
    """Train one run and answer both splits, where that is not done."""
    where, store = ["-m", "mm_adapter"], str(options.out / "features")
    if not (out / "run.json").is_file():
        kind = [] if pictures else ["--vision", "none"]
        train = ["train", "--preset", options.preset, "--data", str(options.data), "--seed", str(seed), *kind]
        run(
            [
                *where,
                *train,
                "--features",
                str(options.out / "features"),
                "--out",
                str(out),
                "--quiet",
                "--resume",
                "auto",
            ]
        )
    for split in SPLITS:
        if not (out / split / "metrics.json").is_file():
            ask = ["evaluate", "--adapter", str(out), "--data", str(options.data), "--split", split]
            run([*where, *ask, "--features", store, "--out", str(out / split), "--quiet"])


def right_answers(folder: Path, questions: dict[str, list[Question]]) -> dict[str, bool]:
    """Return pid -> whether the answer is right, of all questions of both splits."""
    found: dict[str, bool] = {}
    for split in SPLITS:
        lines = (folder / split / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        answers = {answer["pid"]: answer["choice"] for answer in map(json.loads, lines)}
        found |= {question.pid: answers[question.pid] == question.answer for question in questions[split]}
    return found


def accuracy(right: dict[str, bool], pids: list[str]) -> float:
    """Return the accuracy on ``pids`` in percent."""
    return 100 * mean(right[pid] for pid in pids)


def main() -> int:
    """Train, answer, compare; print a table and write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="ScienceQA folder with pictures")
    parser.add_argument("--out", type=Path, required=True, help="keep every run in this folder")
    parser.add_argument("--preset", default="smollm2", help="preset name or TOML file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    options.data, options.out = options.data.resolve(), options.out.resolve()
    try:
        dataset = read_scienceqa(options.data)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    questions = {split: dataset.split(split) for split in SPLITS}
    asked = [question for split in SPLITS for question in questions[split]]
    pictured = [question.pid for question in asked if question.image is not None]
    tested = [question.pid for question in questions["test"]]
    found: dict[str, list[dict[str, bool]]] = {"with": [], "without": []}
    minutes = 0.0
    print(f"{'run':12} {'IMG':>6} {'test, all':>10} {'minutes':>8}", flush=True)
    for seed in options.seeds:
        for kind in found:
            folder = options.out / f"{kind}-{seed}"
            train_and_answer(folder, options, seed, kind == "with")
            right = right_answers(folder, questions)
            found[kind].append(right)
            took = json.loads((folder / "run.json").read_text(encoding="utf-8"))["seconds"] / 60
            minutes = max(minutes, took if kind == "with" else 0.0)
            print(
                f"{kind + '-' + str(seed):12} {accuracy(right, pictured):6.2f} {accuracy(right, tested):10.2f} "
                f"{took:8.1f}",
                flush=True,
            )
    retrieval = options.out / "retrieval"
    if not (retrieval / "test" / "predictions.jsonl").is_file():
        script = str(ROOT / "scripts" / "baseline_retrieval.py")
        for split in SPLITS:
            run([script, "--pictures", "--data", str(options.data), "--split", split, "--out", str(retrieval / split)])
    neighbours = accuracy(right_answers(retrieval, questions), pictured)
    seeing, blind = (mean(accuracy(right, pictured) for right in found[kind]) for kind in found)
    average = mean(accuracy(right, tested) for right in found["with"])
    pairs = zip(found["with"], found["without"], strict=True)
    gains = [[one[pid] - other[pid] for pid in pictured] for one, other in pairs]
    # Of each question the mean over seeds: questions are drawn, not runs.
    interval = bootstrapped([mean(of_question) for of_question in zip(*gains, strict=True)], signed=True)
    assert interval is not None
    print(f"IMG with pictures {seeing:.2f}, without {blind:.2f}, retrieval with pictures {neighbours:.2f}")
    print(f"gain {seeing - blind:.2f} (95 % {interval.low:.2f} to {interval.high:.2f}), test average {average:.2f}")
    bars = [
        bar("gain of pictures on IMG", seeing - blind, GAIN, seeing - blind >= GAIN),
        bar("lower end of its interval", interval.low, 0.0, interval.low > 0),
        bar(
            "IMG over retrieval with pictures",
            seeing - neighbours,
            OVER_RETRIEVAL,
            seeing - neighbours >= OVER_RETRIEVAL,
        ),
        bar("average over all test questions", average, AVERAGE, average >= AVERAGE),
        bar("longest run with pictures, minutes", minutes, MINUTES, minutes <= MINUTES),
    ]
    if options.json is not None:
        write_bars(options.json, bars)
    return 0 if all(entry["holds"] for entry in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
