"""What keeps a run from being lost: its states on disk, and signals that end it between two steps.

A state holds all that is needed to go on as if nothing had happened.
"""

import hashlib
import io
import pickle
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

from mm_adapter.core.errors import Stopped, UserError
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
        "log_to",
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
        best: best validation result so far, (accuracy, -loss); None before the first evaluation.
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


_SAME = 2.0  # seconds in which a launcher that passes a signal on may repeat it


class StopRequest:
    """While entered, remembers SIGINT and SIGTERM in place of acting on them; one more, later, acts at once.

    Attributes:
        received: the one that came to this process, or None.
        agreed: the one after which all ranks end, or None; from then on no further one cuts the saving short.
    """

    received: signal.Signals | None = None
    agreed: signal.Signals | None = None

    def __init__(self) -> None:
        self._patient = True
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Handlers belong to the main thread; a run on another one is stopped by whoever started it.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end what is done here wherever it is: nothing of it needs to be kept."""
        self._patient = False
        try:
            if self.received is not None:
                self.act()
            yield
        finally:
            self._patient = True

    def told(self) -> tuple[float, float]:
        """Return what the ranks add up, so that all of them end after the same step."""
        return float(self.received is signal.SIGINT), float(self.received is signal.SIGTERM)

    def agree(self, sums: Sequence[float]) -> None:
        """Take the ranks' sums of ``told``: where any of them was asked to end, all do, after the same step."""
        interrupted, terminated = sums
        if interrupted or terminated:
            self.agreed = signal.SIGINT if interrupted else signal.SIGTERM

    def act(self) -> None:
        """Raise what was asked for: ``KeyboardInterrupt`` after Ctrl-C, else ``Stopped``."""
        raise Stopped if (self.agreed or self.received) is signal.SIGTERM else KeyboardInterrupt

    def _came(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and time.monotonic() - self._first > _SAME
        if self.received is None:
            self.received, self._first = signal.Signals(number), time.monotonic()
        if self.agreed is None and (again or not self._patient):
            self.act()
