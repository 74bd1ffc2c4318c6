"""A run that is killed again and again ends in the weights of the run that was not.

    python scripts/check_resume.py [--kills N] [--epochs N] [--ranks N] [--seed S] [--json FILE]

A tiny model is trained alone and by several ranks under ``torchrun``, without being disturbed, then once more for every
kill: begun, ended at a moment that the seed draws (SIGKILL; SIGTERM; SIGKILL while a state is being written; SIGKILL of
one rank of several, after which ``torchrun`` starts all of them again), gone on with by ``--resume auto`` until it is
done. The adapter that it leaves is compared byte by byte. A state is written at every step, so that kills meet writes.
A run takes about a minute; ranks, which wait for each other, train for a third of the epochs.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bars import bar, write_bars
from tiny import PICTURES, descendants, kill_all, start, training_options

from mm_adapter.core.progress import with_progress

KINDS = ("kill", "term", "in a save", "one of several ranks")
PATIENCE = 300.0  # seconds for a run
EARLY = 0.1  # share of kills that come while a run still starts


class Trial:
    """Runs in a folder of their own.

    Attributes:
        seconds, events: of the undisturbed run that is to be disturbed, and the lines of its metrics.
    """

    seconds: float
    events: int

    def __init__(self, folder: Path, epochs: int, ranks: int, pictures: str = "none") -> None:
        self.folder = folder
        self.epochs = epochs
        self.ranks = ranks
        self.options = training_options(folder, "--ema-decay", "0.9", "--save-steps", "1", pictures=pictures)

    def begin(self, name: str, ranks: int) -> "subprocess.Popen[bytes]":
        """Start or go on with a run."""
        epochs = self.epochs if ranks == 1 else max(1, self.epochs // 3)
        arguments = [
            "train",
            *self.options,
            "--epochs",
            str(epochs),
            "--out",
            str(self.folder / name),
            "--resume",
            "auto",
        ]
        launcher = [f"--max-restarts={3 if ranks > 1 else 0}"] if ranks > 1 else []
        return start(arguments, ranks, launcher, log=self.folder / f"{name}.log")

    def whole(self, name: str, ranks: int) -> bytes:
        """Return the adapter of an undisturbed run, and learn how long runs are."""
        began = time.monotonic()
        self.end(name, self.begin(name, ranks))
        self.seconds, self.events = time.monotonic() - began, _lines(self.folder / name / "metrics.jsonl")
        return self.weights(name)

    def end(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        """Let a run come to its end."""
        try:
            status = process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            kill_all(process)
            raise SystemExit(f"{name} hangs:\n{self.log(name)}") from None
        if status:
            raise SystemExit(f"{name} ended with status {status}:\n{self.log(name)}")

    def weights(self, name: str) -> bytes:
        """Return the bytes of a run's adapter."""
        return (self.folder / name / "adapter_model.safetensors").read_bytes()

    def log(self, name: str) -> str:
        """Return the end of what a run said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def disturb(self, name: str, kind: str, draw: random.Random) -> bool:
        """Begin a run, end it as ``kind`` says at a drawn moment, and go on; return if there was a run to end."""
        ranks = self.ranks if kind == KINDS[-1] else 1
        process = self.begin(name, ranks)
        states, metrics = self.folder / name / "states", self.folder / name / "metrics.jsonl"
        # Most of the time of so short a run passes before its first step, and is of little interest.
        events = 0 if draw.random() < EARLY else draw.randrange(1, self.events)
        if not events:
            time.sleep(draw.uniform(0.0, 0.8) * self.seconds)
        while process.poll() is None and _lines(metrics) < events:
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 0.05))
        if kind == "in a save":
            # Half-written states have names with a dot in front.
            while process.poll() is None and not any(path.name.startswith(".") for path in _entries(states)):
                pass
        met = process.poll() is None
        if kind == "term":
            process.send_signal(signal.SIGTERM)
            if met and process.wait(timeout=PATIENCE) not in (0, -signal.SIGTERM):
                raise SystemExit(f"{name}: SIGTERM ended it with {process.returncode}:\n{self.log(name)}")
        elif kind == KINDS[-1]:
            workers = [child for child in descendants(process.pid) if _is_worker(child)]
            met = bool(workers)
            if workers:
                os.kill(draw.choice(workers), signal.SIGKILL)
            self.end(name, process)
            return met
        else:
            process.kill()
            process.wait()
        self.end(name, self.begin(name, ranks))
        return met


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_worker(process: int) -> bool:
    try:
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        environment = Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return False
    return b"mm_adapter" in arguments and b"\0RANK=" in environment


def check(kills: int, seed: int, epochs: int, ranks: int = 4, pictures: str = "none") -> list[dict[str, Any]]:
    """Disturb ``kills`` runs, kinds in turn, each of ``epochs``, the last kind of ``ranks``; return the bars."""
    draw = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="mm-adapter-resume-"))
    counts = {kind: [0, 0, 0] for kind in KINDS}  # runs, met while they ran, same bytes
    try:
        trial = Trial(folder, epochs, ranks, pictures)
        whole, lengths = {}, {}
        for size in (1, ranks) if kills >= len(KINDS) else (1,):
            whole[size] = trial.whole(f"whole-{size}", size)
            lengths[size] = trial.seconds, trial.events
            print(f"undisturbed, ranks {size}: {trial.seconds:.0f} s")
        for number in with_progress(range(kills), "killed runs", "run"):
            kind = KINDS[number % len(KINDS)]
            size = ranks if kind == KINDS[-1] else 1
            trial.seconds, trial.events = lengths[size]
            name = f"run-{number}"
            met = trial.disturb(name, kind, draw)
            count = counts[kind]
            count[0], count[1] = count[0] + 1, count[1] + met
            count[2] += trial.weights(name) == whole[size]
            shutil.rmtree(folder / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bars = []
    for kind, (runs, met, same) in counts.items():
        if runs:
            print(f"{kind:20} {runs:3} runs, {met:3} ended before their time, {same:3} with the same bytes")
            bars.append(bar(f"same bytes after: {kind}", same, runs, same == runs))
    return bars


def main() -> int:
    """Check, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="runs to end before their time")
    parser.add_argument("--epochs", type=int, default=300, help="of a run of one process")
    parser.add_argument("--ranks", type=int, default=4, help="processes of the runs that have several")
    parser.add_argument("--pictures", choices=PICTURES, default="none", help="how the runs see pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    bars = check(options.kills, options.seed, options.epochs, options.ranks, options.pictures)
    if options.json is not None:
        write_bars(options.json, bars)
    return not all(found["holds"] for found in bars)


if __name__ == "__main__":
    sys.exit(main())
