"""A generated set in ScienceQA's official layout, so that the toolkit can be tried without anybody's data.

Questions of natural, social and language science, with a picture, with a text, and with neither. The handwritten
digits are scikit-learn's (UCI ML hand-written digits, real handwriting); the rest is drawn and written here.
"""

import json
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mm_adapter.core.errors import UserError
from mm_adapter.data.demo.draft import Draft
from mm_adapter.data.demo.texts import CONTEXT_FAMILIES, PLAIN_FAMILIES, draft_texts
from mm_adapter.data.demo.visual import DigitSample, draft_visual

SMALLEST = 60
VAL_SHARE, TEST_SHARE = 0.08, 0.15
PICTURE_SHARE, CONTEXT_SHARE = 0.57, 0.20


def write_demo(out: Path, seed: int = 0, size: int = 2600) -> None:
    """Write a generated set of ``size`` questions into the folder ``out``; same seed and size, same bytes.

    About 77 % of the questions are for training, 8 % for validation and 15 % for the test; about 57 % have a picture.
    Everything is prepared beside ``out`` and moved there at the end: an interrupted run leaves nothing half-written.

    Args:
        out: a folder that does not exist yet, or is empty.
        size: number of questions, at least 60.

    Raises:
        UserError: ``size`` is too small, ``out`` is a file or not empty, or it cannot be written.
    """
    out = Path(out)
    if size < SMALLEST:
        raise UserError(f"--size {size} is too small for three splits. Use {SMALLEST} or more.")
    temporary: Path | None = None
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: this is not an empty folder, and nothing is overwritten. Choose another --out.")
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        _write(temporary, draft_demo(seed, size), seed)
        temporary.chmod(0o755)
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror or error}). Free some space or choose another --out."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def draft_demo(seed: int, size: int) -> dict[str, list[Draft]]:
    """Return split -> its questions, in mixed order.

    No digit sample and, as far as there are enough facts, no text is in two splits.
    """
    counts = {"val": round(size * VAL_SHARE), "test": round(size * TEST_SHARE)}
    counts = {"train": size - sum(counts.values()), **counts}
    digits = split_digits(seed)
    used: set[tuple[str, ...]] = set()
    drafts: dict[str, list[Draft]] = {}
    for split, count in counts.items():
        rng = Random(f"mm-adapter demo {seed} {split}")
        chosen = draft_visual(round(count * PICTURE_SHARE), digits[split], rng)
        chosen += draft_texts(round(count * CONTEXT_SHARE), CONTEXT_FAMILIES, used, rng)
        chosen += draft_texts(count - len(chosen), PLAIN_FAMILIES, used, rng)
        rng.shuffle(chosen)
        drafts[split] = chosen
    return drafts


def split_digits(seed: int) -> dict[str, dict[int, list[DigitSample]]]:
    """Return split -> digit -> its samples of scikit-learn's digits; every sample is in exactly one split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = Random(f"mm-adapter digits {seed}")
    splits: dict[str, dict[int, list[DigitSample]]] = {"train": {}, "val": {}, "test": {}}
    for digit in range(10):
        samples = [(int(index), digits.images[index]) for index in np.flatnonzero(digits.target == digit)]
        rng.shuffle(samples)
        val, test = round(len(samples) * VAL_SHARE), round(len(samples) * TEST_SHARE)
        splits["val"][digit] = samples[:val]
        splits["test"][digit] = samples[val : val + test]
        splits["train"][digit] = samples[val + test :]
    return splits


def _write(folder: Path, drafts: dict[str, list[Draft]], seed: int) -> None:
    # Official pids run over the whole set and say nothing about the split.
    order = [split for split, own in drafts.items() for _ in own]
    Random(f"mm-adapter pids {seed}").shuffle(order)
    left = {split: iter(own) for split, own in drafts.items()}
    problems: dict[str, dict[str, Any]] = {}
    splits: dict[str, list[str]] = {split: [] for split in drafts}
    for number, split in enumerate(order, start=1):
        pid, draft = str(number), next(left[split])
        problems[pid] = _problem(draft, split)
        splits[split].append(pid)
        if draft.picture is not None:
            place = folder / "images" / split / pid
            place.mkdir(parents=True)
            draft.picture().save(place / "image.png")
    for name, value in (("problems.json", problems), ("pid_splits.json", splits)):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _problem(draft: Draft, split: str) -> dict[str, Any]:
    """Return the official record of a question; ``picture_source`` is ours, for whoever wants to look behind it."""
    record = {
        "question": draft.question,
        "choices": list(draft.options),
        "answer": draft.answer,
        "hint": draft.context,
        "image": "image.png" if draft.picture is not None else None,
        "task": "closed choice",
        "grade": f"grade{draft.grade}",
        "subject": draft.subject,
        "topic": draft.topic,
        "category": draft.category,
        "skill": draft.skill,
        "lecture": draft.lecture,
        "solution": draft.solution,
        "split": split,
    }
    return {**record, "picture_source": draft.picture_source} if draft.picture is not None else record
