"""A split of questions as a task of lmms-eval, lmms-eval's own command on it, and the same split by ``evaluate``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
from bars import bar
from served import ROOT
from tiny import training_options, write_questions

from mm_adapter.data.question import Question
from mm_adapter.data.readers import read_dataset

TASK = "questions"
# Of a score, or of 1 where it is less: evaluation looks at sixteen pictures at a time, lmms-eval at one, and a tower's
# features of both differ by rounding.
NEAR = 1e-5


def write_task(folder: Path, questions: list[Question]) -> Path:
    """Write questions as parquet with their pictures, and a multiple-choice task of them; return the folder."""
    folder.mkdir(parents=True)
    rows = [
        {
            "pid": question.pid,
            "question": question.question,
            "choices": list(question.options),
            "answer": question.answer,
            "hint": question.context,
            "image": None if question.image is None else {"bytes": question.image.read_bytes(), "path": None},
        }
        for question in questions
    ]
    features = datasets.Features(
        {
            **{name: datasets.Value("string") for name in ("pid", "question", "hint")},
            "choices": [datasets.Value("string")],
            "answer": datasets.Value("int64"),
            "image": datasets.Image(),
        }
    )
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "test.parquet")
    (folder / f"{TASK}.yaml").write_text(
        f"task: {TASK}\ndataset_path: parquet\ndataset_kwargs:\n  data_files:\n    test: {folder / 'test.parquet'}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_visual: image\ndoc_to_text: question\n"
        "doc_to_choice: choices\ndoc_to_target: answer\nmetric_list:\n"
        "  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    return folder


def run_lmms_eval(model_args: str, task: Path, out: Path) -> tuple[float, list[dict[str, Any]]]:
    """Run lmms-eval's command; return the accuracy that it writes, 0 to 1, and its samples in their order.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    command = [sys.executable, "-m", "lmms_eval", "--model", "mm-adapter", "--model_args", model_args]
    command += ["--tasks", TASK, "--include_path", str(task), "--output_path", str(out), "--log_samples"]
    # At this level it ends with an error where there was one.
    command += ["--verbosity", "DEBUG"]
    _run(command, {"HF_DATASETS_CACHE": str(out / "cache"), "HF_HUB_OFFLINE": "1"})
    [results] = out.rglob("*_results.json")
    [samples] = out.rglob(f"*_samples_{TASK}.jsonl")
    rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
    return json.loads(results.read_text())["results"][TASK]["acc,none"], rows


def evaluated(run: Path, llama: str, data: Path, folder: Path) -> tuple[float, list[dict[str, Any]]]:
    """Run ``mm-adapter evaluate`` on the test split; return its accuracy in percent and its predictions."""
    command = [sys.executable, "-m", "mm_adapter", "evaluate", "--adapter", str(run), "--llama", llama, "--quiet"]
    command += ["--data", str(data), "--split", "test", "--features", str(folder / "features")]
    _run([*command, "--decoding", "likelihood", "--out", str(folder / "out")], {})
    predictions = [json.loads(line) for line in (folder / "out" / "predictions.jsonl").read_text().splitlines()]
    return json.loads((folder / "out" / "metrics.json").read_text())["accuracy"], predictions


def train_small(folder: Path) -> tuple[Path, str, Path]:
    """Train an adapter that sees pictures on the tiny model; return run, base model and questions to ask it."""
    options = training_options(folder, "--epochs", "3", "--score-end", "true", pictures="shared")
    _run([sys.executable, "-m", "mm_adapter", "train", "--out", str(folder / "run"), *options], {})
    return folder / "run", str(folder / "llama"), write_questions(folder / "asked", 800)


def check_lmms_eval(folder: Path, run: Path, llama: str, data: Path) -> list[dict[str, Any]]:
    """Ask an adapter the test split of ``data`` by lmms-eval and by ``evaluate``; return the bars."""
    questions = read_dataset(str(data)).split("test")
    told, predictions = evaluated(run, llama, data, folder / "evaluated")
    task = write_task(folder / "task", questions)
    found, samples = run_lmms_eval(f"adapter={run},llama={llama},context=hint", task, folder / "lmms")
    worst, different = 0.0, abs(len(samples) - len(predictions))
    by_pid = {prediction["pid"]: prediction for prediction in predictions}
    for sample in samples:
        prediction = by_pid[questions[sample["doc_id"]].pid]
        losses = [float(loss) for loss, _ in sample["filtered_resps"]]
        apart = [abs(a + b) / max(1, abs(b)) for a, b in zip(losses, prediction["scores"], strict=True)]
        worst = max(worst, *apart)
        different += losses.index(min(losses)) != prediction["choice"]
    shown, hinted = sum(q.image is not None for q in questions), sum(bool(q.context) for q in questions)
    print(f"lmms-eval: {len(samples)} questions, {shown} with a picture, {hinted} with a context")
    print(f"lmms-eval: accuracy {100 * found:.2f}, mm-adapter evaluate {told:.2f}; scores within {worst:.1e}")
    points = abs(round(100 * found, 2) - told)
    return [
        bar("lmms-eval: points between its accuracy and that of evaluate", points, 0, points == 0),
        bar("lmms-eval: questions answered unlike evaluate", different, 0, different == 0),
        bar("lmms-eval: largest relative difference of an option's score", worst, NEAR, worst <= NEAR),
    ]


def _run(command: list[str], variables: dict[str, str]) -> None:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths, **variables}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:4])} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
