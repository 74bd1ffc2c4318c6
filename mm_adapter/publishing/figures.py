"""What an adapter was found to be worth: every figure of ``metrics.json`` as ``evaluate`` writes it, with intervals."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json
from mm_adapter.eval.intervals import Interval, bootstrapped, wilson
from mm_adapter.eval.leaderboard.submission import RECORD
from mm_adapter.eval.metrics import COLUMNS

METRICS_FILE = "metrics.json"
_BREAKDOWNS = {"by_topic": "topic", "by_category": "category", "by_skill": "skill"}
_CLASSES = {
    "NAT": "natural science",
    "SOC": "social science",
    "LAN": "language science",
    "TXT": "context in words",
    "IMG": "with a picture",
    "NO": "no context",
    "G1-6": "grades 1-6",
    "G7-12": "grades 7-12",
    "Avg": "all questions",
}
_RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        table: which table it stands in: ``class``, ``topic``, ``category``, ``skill`` or ``responses``.
        name: of its row.
        value: in percent where the metric is an accuracy or another share.
        metric: what is measured, as the hub names it, such as ``accuracy``; empty for a plain count.
        total: how many questions count; None where the table has no such column.
        correct: how many of them are right; None where the file does not say.
        interval: of 95 %; None where nothing tells it.
    """

    table: str
    name: str
    value: float
    metric: str
    total: int | None = None
    correct: int | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Evaluation:
    """The figures of one split.

    Attributes:
        folder: where ``evaluate`` wrote them.
        split: that was answered.
        data: name of the data as it was given to the command; empty where the files do not say.
        images: ``real``, or what was shown in place of the pictures.
        decoding: ``likelihood`` or ``generate``; empty where the files do not say.
        questions: whether questions with options were answered; else responses were measured.
        figures: in the file's order.
        unread: answers that could not be read; they count as wrong.
        skipped: bad questions that count as wrong, or conversations that were left out.
    """

    folder: Path
    split: str
    data: str
    images: str
    decoding: str
    questions: bool
    figures: tuple[Figure, ...]
    unread: int
    skipped: int


def find_evaluations(run: Path, parameters: int, results: Sequence[Path] = ()) -> list[Evaluation]:
    """Return the evaluations of an adapter, by folder.

    Args:
        run: folder of the adapter.
        parameters: how many numbers it trains; an evaluation that says otherwise is of another model.
        results: folders of ``evaluate``; none: all directly within ``run``, without those of other models.

    Raises:
        UserError: a file is damaged, or a named folder holds no evaluation, or that of another model.
    """
    found = []
    for folder in results or sorted(path.parent for path in run.glob(f"*/{METRICS_FILE}")):
        record = _record(folder / RECORD)
        tuned = record.get("tuned_parameters", parameters)
        if tuned == parameters:
            found.append(_evaluation(folder, record))
        elif results:
            raise UserError(
                f"{folder}: the model that was evaluated has {tuned:,} trained parameters, the adapter in {run} "
                f"{parameters:,}. Name evaluations of this adapter."
            )
    return found


def _record(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    record = read_json(path, "record of the evaluation")
    kinds = {"split": str, "images": str, "decoding": str, "tuned_parameters": int, "data": str}
    if not isinstance(record, dict) or any(
        not isinstance(record.get(key, kind()), kind) for key, kind in kinds.items()
    ):
        raise UserError(f"{path}: this is no record of an evaluation, or it is damaged. Evaluate again.")
    return record


def _evaluation(folder: Path, record: Mapping[str, Any]) -> Evaluation:
    path = folder / METRICS_FILE
    metrics = read_json(path, "metrics of an evaluation")
    try:
        questions = "official" in metrics
        figures = tuple(_of_questions(metrics) if questions else _of_responses(metrics, folder))
        return Evaluation(
            folder,
            record.get("split") or str(metrics.get("split", "")),
            record.get("data", ""),
            record.get("images", "real"),
            record.get("decoding", ""),
            questions,
            figures,
            int(metrics.get("unparseable", 0)),
            len(metrics.get("skipped", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not the metrics that evaluate writes, or damaged ({error}). Evaluate again."
        ) from error


def _of_questions(metrics: Mapping[str, Any]) -> Iterator[Figure]:
    for column, key in COLUMNS.items():
        value, total = metrics["official"][key], int(metrics["counts"][key])
        if value is not None:
            # Two decimals tell how many are right among any 5,000 or so.
            interval = wilson(round(value * total / 100), total)
            yield Figure("class", f"{column}, {_CLASSES[column]}", float(value), "accuracy", total, None, interval)
    for key, table in _BREAKDOWNS.items():
        for row in metrics[key]:
            correct, total = int(row["correct"]), int(row["total"])
            interval = wilson(correct, total)
            yield Figure(table, str(row["name"]), float(row["accuracy"]), "accuracy", total, correct, interval)


def _of_responses(metrics: Mapping[str, Any], folder: Path) -> Iterator[Figure]:
    rows = _rows(folder / "responses.jsonl", int(metrics["conversations"]))
    loss = _loss_interval(rows)
    yield Figure("responses", "loss per token", float(metrics["loss_per_token"]), "loss", interval=loss)
    if metrics["perplexity"] is not None:
        spread = None if loss is None or loss.high > 700 else Interval(math.exp(loss.low), math.exp(loss.high))
        yield Figure("responses", "perplexity", float(metrics["perplexity"]), "perplexity", interval=spread)
    for key in ("response_tokens", "conversations", "shortened"):
        yield Figure("responses", key.replace("_", " "), int(metrics[key]), "")
    for key, value in metrics.get("open_answers", {}).items():
        count = key in ("answers", "empty")
        values = [row[key] for row in rows if isinstance(row.get(key), float)]
        interval = None if count or len(values) != len(rows) else bootstrapped(values)
        yield Figure("responses", key.replace("_", " "), float(value), "" if count else key, interval=interval)


def _rows(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the responses of an evaluation; none where the file is not there or not of it."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    return rows if len(rows) == count and all(isinstance(row, dict) for row in rows) else []


def _loss_interval(rows: Sequence[Mapping[str, Any]]) -> Interval | None:
    """Return the bootstrap interval of the loss per token when conversations are drawn; None for fewer than two."""
    if len(rows) < 2:
        return None
    tokens = np.array([row["response_tokens"] for row in rows], dtype=float)
    losses = np.array([row["loss_per_token"] for row in rows], dtype=float) * tokens
    generator, count = np.random.default_rng(0), len(rows)
    # One resample at a time: all of them at once would be gigabytes for a large set.
    drawn = (generator.multinomial(count, np.full(count, 1 / count)) for _ in range(_RESAMPLES))
    means = [float(times @ losses / (times @ tokens)) for times in drawn]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))
