"""How a run begins in its folder: anew, from a state, or not at all, since it has come to its end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_adapter.adapter.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import delete_leftovers, read_json
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.log import CURVE_FILE, METRICS_FILE
from mm_adapter.training.state import check_settings, delete_states, has_whole_state, load_state, state_files

RUN_FILE = "run.json"
_WRITTEN = (WEIGHTS_FILE, CONFIG_FILE, METRICS_FILE, CURVE_FILE, RUN_FILE, "config.json")


@dataclass(frozen=True)
class Start:
    """How a run begins: from a state or not, or not at all where its result is there."""

    resume: bool
    result: dict[str, Any] | None = None


def check_start(out: Path, resume: str, config: TrainingConfig) -> Start:
    """Return how a run would begin in a folder; nothing is written.

    Args:
        out: run folder, which need not be there.
        resume: ``must``, ``auto`` or ``no``.
        config: settings.

    Raises:
        UserError: it could not, or only over what another run has left.
    """
    states = state_files(out)
    finished = (out / RUN_FILE).is_file()
    if resume == "must":
        if finished and not states:
            raise UserError(f"{out}: this run has come to its end already; choose another --out for another one.")
        if not has_whole_state(out):
            load_state(out, config.to_json())  # says why there is none
        _check_saved(out, config)
        return Start(True)
    if resume == "no":
        if finished:
            raise UserError(f"{out}: holds a run already, which has come to its end; choose another --out.")
        if (out / CONFIG_FILE).exists() or states:
            raise UserError(f"{out}: holds a run already; choose another --out, or go on with it by --resume.")
        return Start(False)
    if finished:
        _check_saved(out, config, needed=True)
        return Start(False, read_json(out / RUN_FILE, "result of the run"))
    if (out / CONFIG_FILE).exists() and not (out / METRICS_FILE).exists():
        raise UserError(
            f"{out}: holds an adapter that was not trained here, which a new run would replace; choose another --out."
        )
    whole = has_whole_state(out)
    if whole:
        _check_saved(out, config)
    return Start(whole)


def _check_saved(out: Path, config: TrainingConfig, needed: bool = False) -> None:
    path = out / "config.json"
    if needed or path.is_file():
        check_settings(path, read_json(path, "settings of the run"), config.to_json())


def start(out: Path, resume: str, config: TrainingConfig, log: Callable[[str], None]) -> Start:
    """Return how a run begins, and clear away what others that were killed have left.

    Raises:
        UserError: as ``check_start``.
    """
    found = check_start(out, resume, config)
    if found.result is not None:
        log(f"{out}: this run has come to its end already")
    elif resume != "no":
        delete_leftovers(out, _WRITTEN)
        if not found.resume and state_files(out):
            log(f"{out}: no state of this run is whole; it begins anew")
            delete_states(out)
    return found
