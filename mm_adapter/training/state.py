"""The states of a run on disk: all that is needed to go on as if nothing had happened."""

import hashlib
import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically
from mm_adapter.training.checked import with_new_names
from mm_adapter.training.config import TrainingConfig

STATES = "states"
_NAME = re.compile(r"(\d{8,})-([0-9a-f]{16})\.pt")  # step and digest of the content
# What says how a run is carried out, not what it computes: it may differ when a run is gone on with.
_HOW = frozenset(
    {
        "device",
        "gradient_checkpointing",
        "offload",
        "sharding",
        "save_minutes",
        "save_steps",
        "max_states",
        "max_skipped_steps",
    }
)


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        epoch_start: the order generator's state at the start of the epoch under way.
        best: best validation result so far, (accuracy, -loss); None before the first look.
        seconds: of training so far.
        evaluated: step of the last evaluation on the validation questions.
        skipped: steps that changed nothing, since their loss or gradient was not finite.
    """

    step: int
    epoch_start: Tensor
    best: tuple[float, float] | None = None
    seconds: float = 0.0
    evaluated: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class SavedState:
    """A state as it was read.

    Attributes:
        progress: where the run stood.
        parts: state dicts by name.
        damaged: files of later states that could not be read, with the reason.
    """

    progress: Progress
    parts: dict[str, Any]
    damaged: dict[str, str]


def save_state(folder: Path, progress: Progress, parts: dict[str, Any], config: dict[str, Any], keep: int = 2) -> Path:
    """Write a state atomically and delete all but the last ``keep``; ``parts`` are state dicts by name.

    Raises:
        UserError: it cannot be written; the earlier states are still there.
    """
    # Through memory: on a full disk torch's own writer dies with an internal error instead of the system's.
    content = io.BytesIO()
    torch.save({"progress": vars(progress), "parts": parts, "config": config}, content)
    path = folder / STATES / f"{progress.step:08d}-{_digest(content.getbuffer())}.pt"
    for left in (folder / STATES).glob(".*.pt.*"):  # by a process that was killed as it wrote
        left.unlink(missing_ok=True)
    write_atomically(path, lambda temporary: _write(temporary, content))
    # States of later steps are damaged, or of a course that is taken anew: they are in nobody's way any more.
    others = [found for found in state_files(folder) if found != path]
    earlier = [found for found in others if _step(found) < progress.step]
    for found in {*others} - {*earlier[: keep - 1]}:
        found.unlink(missing_ok=True)
    return path


def _step(path: Path) -> int:
    return int(path.name.split("-")[0])


def _write(path: Path, content: io.BytesIO) -> None:
    path.write_bytes(content.getbuffer())


def state_files(folder: Path) -> list[Path]:
    """Return the files of all states of a run, the last step first."""
    files = [path for path in (folder / STATES).glob("*.pt") if _NAME.fullmatch(path.name)]
    return sorted(files, key=lambda path: (_step(path), path.stat().st_mtime_ns), reverse=True)


def has_whole_state(folder: Path) -> bool:
    """Return whether a run can be gone on with."""
    return any(_is_whole(path, path.read_bytes()) for path in state_files(folder))


def delete_states(folder: Path) -> None:
    """Delete all states of a run, and what a process that was killed left of one."""
    for path in (folder / STATES).glob("*"):
        path.unlink(missing_ok=True)
    if (folder / STATES).is_dir():
        (folder / STATES).rmdir()


def load_state(folder: Path, config: dict[str, Any]) -> SavedState:
    """Read the last whole state of a run with the same settings.

    Raises:
        UserError: there is none, all are damaged, or it was made with other settings.
    """
    damaged: dict[str, str] = {}
    for path in state_files(folder):
        try:
            content = _read(path)
            progress, parts, saved = _progress(content["progress"]), content["parts"], content["config"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError, OSError) as error:
            damaged[str(path)] = (str(error) or type(error).__name__).splitlines()[0]
            continue
        check_settings(path, saved, config)
        return SavedState(progress, parts, damaged)
    if damaged:
        name, reason = next(iter(damaged.items()))
        raise UserError(f"{name}: damaged state ({reason}), and no other; start again with another --out.")
    raise UserError(f"{folder / STATES}: there is no state to go on from; start without --resume.")


def _progress(saved: dict[str, Any]) -> Progress:
    """Return the progress of a saved state; version 0.1 called the last evaluation the last look."""
    return Progress(**{"evaluated" if key == "looked" else key: value for key, value in saved.items()})


def check_settings(path: Path, saved: dict[str, Any], config: dict[str, Any]) -> None:
    """Make sure that a run is gone on with as it was begun, save in how it is carried out.

    A setting that the saved ones lack came later: they stand for its default. Old names are understood.

    Raises:
        UserError: a setting differs; ``path`` names the file of the saved ones.
    """
    saved = {**TrainingConfig().to_json(), **with_new_names(saved)}
    different = sorted(key for key in config.keys() - _HOW if saved.get(key) != config[key])
    if different:
        raise UserError(
            f"{path}: made with other settings ({different[0]}: {saved.get(different[0])!r}, now "
            f"{config[different[0]]!r}); resume with the same ones."
        )


def _read(path: Path) -> Any:
    content = path.read_bytes()
    if not _is_whole(path, content):
        raise ValueError("its content is not what was written")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _is_whole(path: Path, content: bytes) -> bool:
    return path.stem.endswith(f"-{_digest(content)}")


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
