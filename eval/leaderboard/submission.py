"""A run becomes a row: what must be so before it may stand among the official ones."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Dataset, Question
from mm_adapter.eval.checks import first_few
from mm_adapter.eval.layouts.json_text import NotOneValue, parse_json, read_text
from mm_adapter.eval.leaderboard.published import official_pids
from mm_adapter.eval.leaderboard.row import MOST_PARAMETERS
from mm_adapter.eval.system import Reading, System, name_of, read_system

RECORD = "evaluation.json"


def answers_digest(questions: Sequence[Question]) -> str:
    """Return the SHA-256 of what was asked: pids, options and right answers, whatever their order."""
    asked = sorted((question.pid, list(question.options), question.answer) for question in questions)
    return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """A run on some questions.

    Attributes:
        system: its answers and figures.
        split: that was answered.
        digest: of what was asked (`answers_digest`).
        tuned: trained parameters; None where the run does not say.
        apart: why it must not be ranked with official results; empty where it may.
        recorded: whether the run itself recorded what it answered (``evaluation.json``), so that changes are noticed.
    """

    system: System
    split: str
    digest: str
    tuned: int | None
    apart: str
    recorded: bool


def read_run(path: Path, dataset: Dataset, split: str = "test", name: str | None = None) -> Run:
    """Return a run from the folder that ``mm-adapter evaluate`` wrote, or from a file of predictions in any layout.

    Raises:
        UserError: the predictions do not fit the split, or the answers in ``dataset`` are not those of the run.
    """
    folder = path.is_dir()
    record = _record(path / RECORD) if folder and (path / RECORD).exists() else None
    # A folder says which split it answered; another one than asked for is told by its pids.
    split = split if record is None else record["split"]
    questions, skipped = dataset.split(split), dataset.skipped(split)
    elsewhere = {pid: other for other, pids in dataset.splits.items() if other != split for pid in pids}
    file = path / "predictions.jsonl" if folder else path
    system = read_system(file, questions, skipped, Reading(missing="leave-out"), name or name_of(path), elsewhere)
    digest = answers_digest(questions)
    if record is not None and record["answers_sha256"] != digest:
        raise UserError(
            f"{path}: the questions, options or answers in {dataset.source or '--data'} have changed since the run, or "
            "are another dataset's. Use the data that the run answered, or evaluate again."
        )
    apart = _apart(system, split)
    if record is None:
        return Run(system, split, digest, None, apart, recorded=False)
    if not apart and record["images"] != "real":
        apart = f"its pictures were {record['images']}"
    return Run(system, split, digest, record["tuned_parameters"], apart, recorded=True)


def _record(path: Path) -> Mapping[str, Any]:
    try:
        value = parse_json(read_text(path), str(path))
    except NotOneValue as error:
        raise UserError(f"{path}: this is not JSON ({error}). Evaluate again.") from None
    kinds = {"split": str, "answers_sha256": str, "images": str, "tuned_parameters": int}
    sound = isinstance(value, dict) and all(type(value.get(key)) is kind for key, kind in kinds.items())
    if not sound or not 0 <= value["tuned_parameters"] < MOST_PARAMETERS:
        raise UserError(f"{path}: this is no record of an evaluation, or it is damaged. Evaluate again.")
    return dict(value)


def _apart(system: System, split: str) -> str:
    official = set(official_pids())
    answered = {question.pid for question in system.questions}
    if split != "test":
        return f"split {split}, not test"
    if system.metrics.skipped:
        return f"{len(system.metrics.skipped)} bad questions were skipped"
    missing, more = [pid for pid in official_pids() if pid not in answered], sorted(answered - official)
    if missing or more:
        parts = []
        if missing:
            parts.append(f"{len(missing)} of its {len(official)} questions are missing: {first_few(missing)}")
        if more:
            parts.append(f"{len(more)} others are among them: {first_few(more)}")
        return f"not the official test split ({'; '.join(parts)})"
    return ""
