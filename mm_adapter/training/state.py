"""The last state of a run: all that is needed to go on as if nothing had happened."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.files import write_atomically

STATE_FILE = "last_state.pt"


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        epoch_start: the order generator's state at the start of the epoch under way.
        best: best validation result so far, (accuracy, -loss); None before the first look.
        seconds: of training so far.
        looked: step of the last look at the validation questions.
    """

    step: int
    epoch_start: Tensor
    best: tuple[float, float] | None = None
    seconds: float = 0.0
    looked: int = 0


def save_state(folder: Path, progress: Progress, parts: dict[str, Any], config: dict[str, Any]) -> None:
    """Write the state atomically; ``parts`` are state dicts by name."""
    # Through memory: on a full disk torch's own writer dies with an internal error instead of the system's.
    content = io.BytesIO()
    torch.save({"progress": vars(progress), "parts": parts, "config": config}, content)
    write_atomically(folder / STATE_FILE, lambda path: _write(path, content))


def _write(path: Path, content: io.BytesIO) -> None:
    path.write_bytes(content.getbuffer())


def load_state(folder: Path, config: dict[str, Any]) -> tuple[Progress, dict[str, Any]]:
    """Read the state of a run with the same settings.

    Raises:
        UserError: there is none, it is damaged, or it was made with other settings.
    """
    path = folder / STATE_FILE
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        progress, parts, saved = Progress(**content["progress"]), content["parts"], content["config"]
    except FileNotFoundError:
        raise UserError(f"{path}: there is no state to go on from; start without --resume.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: damaged state ({reason}); start again with another --out.") from error
    different = sorted(key for key in config if saved.get(key) != config[key])
    if different:
        raise UserError(
            f"{path}: made with other settings ({different[0]}: {saved.get(different[0])!r}, now "
            f"{config[different[0]]!r}); resume with the same ones."
        )
    return progress, parts
