"""One process and several: the same losses, the same adapter.

    python scripts/check_ranks.py [--ranks 2 4 8] [--kinds data full checkpointed] [--settings NAME ...] [--repeat N]
        [--forked] [--json FILE]

A tiny random model is trained by ``mm-adapter train`` alone, then under ``torchrun`` over gloo, on the same global
batches: replicated (DDP) and with the frozen layers sharded (FSDP2), in one pass a step and in many, on numbers of
questions and batch sizes that no number of ranks divides, on pictures and none mixed. With eight ranks for batches of
seven there is always a rank without an example, and there are always ranks without a picture. Losses of every step and
the final weights agree within float32's rounding, or the bar is missed.

With ``--repeat`` the shortest run with sharded layers is made again and again, and none may die, at its end either;
``--kinds`` without a kind leaves the rest out. With ``--forked`` ranks are forks of one process, as in those runs, and
not started by ``torchrun``: the same training in a third of the time.
"""

import argparse
import shutil
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bars import bar, write_bars
from forked_ranks import ForkedRanks
from tiny import PICTURES, adapter, losses, start, write_llama, write_questions

BAR = 1e-5
SETTINGS = {
    "one pass": ["--token-budget", "100000"],
    "accumulated": ["--token-budget", "300"],
    "text only": ["--vision", "none"],
    "tiles": PICTURES["tiles"],
    "query": PICTURES["query"],
}
KINDS = {
    "data": ("DDP", []),
    "full": ("FSDP2", ["--sharding", "full"]),
    "checkpointed": ("FSDP2, checkpointed", ["--sharding", "full", "--gradient-checkpointing", "true"]),
}


@dataclass(frozen=True)
class Place:
    """Where the check works.

    Attributes:
        folder: of model, questions, features and runs.
        options: of every training.
        forked: makes the ranks; None for torchrun.
    """

    folder: Path
    options: list[str]
    forked: ForkedRanks | None = None

    @classmethod
    def make(cls, folder: Path, forked: ForkedRanks | None = None) -> "Place":
        """Write model and questions; the prompts are small in number, so that the projection matters."""
        llama, data = write_llama(folder / "llama"), write_questions(folder / "data", 75)
        options = ["--llama", str(llama), "--data", str(data), "--features", str(folder / "features"), "--quiet"]
        options += ["--layers", "3", "--prompt-length", "3", "--bottleneck", "8", "--batch-size", "7", "--epochs", "2"]
        return cls(folder, [*options, "--warmup-epochs", "0.2", "--base-lr", "0.3", "--max-length", "700"], forked)

    def train(self, name: str, ranks: int, more: list[str]) -> Path:
        """Train once; return the run's folder."""
        out, log = self.folder / name, self.folder / f"{name}.log"
        arguments = ["train", *self.options, "--out", str(out), *more]
        if self.forked is not None:
            failed = any(self.forked.run(arguments, ranks, log))
        else:
            failed = start(arguments, ranks, log=log).wait() != 0
        if failed:
            raise SystemExit(f"{' '.join(arguments)} failed with {ranks} ranks:\n{log.read_text()[-3000:]}")
        return out


def differences(one: Path, other: Path) -> tuple[float, float]:
    """Return the largest difference of two runs' losses, and of their weights."""
    of_losses = max(abs(a - b) for a, b in zip(losses(one), losses(other), strict=True))
    mine, theirs = adapter(one), adapter(other)
    return of_losses, max(float((tensor - theirs[name]).abs().max()) for name, tensor in mine.items())


def check(ranks: list[int], kinds: list[str], settings: list[str], is_forked: bool) -> list[dict[str, Any]]:
    """Run every case; return the bars."""
    bars = []
    forks: AbstractContextManager[ForkedRanks | None] = ForkedRanks() if is_forked else nullcontext()
    with tempfile.TemporaryDirectory(prefix="mm-adapter-ranks-") as folder, forks as forked:
        place = Place.make(Path(folder), forked)
        for setting in settings:
            more = SETTINGS[setting]
            alone = place.train(f"{setting}-1".replace(" ", "-"), 1, more)
            for kind in kinds:
                engine, sharding = KINDS[kind]
                for count in ranks:
                    run = place.train(f"{setting}-{kind}-{count}".replace(" ", "-"), count, [*more, *sharding])
                    of_losses, of_weights = differences(alone, run)
                    value = max(of_losses, of_weights)
                    name = f"{engine}, {count} ranks, {setting}"
                    bars.append(bar(name, value, BAR, value <= BAR))
                    print(f"{name:44} losses {of_losses:.1e}  weights {of_weights:.1e}", flush=True)
    return bars


def repeat(times: int, ranks: list[int]) -> dict[str, Any]:
    """Make one step with sharded layers ``times`` times, on numbers of ranks in turn; return the bar."""
    died = 0
    with tempfile.TemporaryDirectory(prefix="mm-adapter-ranks-") as name, ForkedRanks() as forked:
        place = Place.make(Path(name))
        step = [*place.options, "--vision", "none", "--sharding", "full", "--epochs", "0.1", "--warmup-epochs", "0"]
        for number in range(times):
            count, out, log = ranks[number % len(ranks)], place.folder / str(number), place.folder / f"{number}.log"
            statuses = forked.run(["train", *step, "--out", str(out)], count, log)
            if any(statuses):
                died += 1
                print(f"run {number + 1}, {count} ranks: {statuses}\n{log.read_text()[-1000:]}", flush=True)
            shutil.rmtree(out, ignore_errors=True)
    print(f"{times} runs with sharded layers, {died} died")
    return bar(f"FSDP2, runs that died of {times}", died, 0, died == 0)


def main() -> int:
    """Check, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8], help="numbers of processes")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS, help="data: DDP; full: FSDP2")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS, help="what is trained")
    parser.add_argument("--repeat", type=int, default=0, help="short runs with sharded layers, of which none may die")
    parser.add_argument("--forked", action="store_true", help="fork the ranks, in place of torchrun")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    bars = check(options.ranks, options.kinds, options.settings, options.forked) if options.kinds else []
    missed = [found["name"] for found in bars if not found["holds"]]
    if options.kinds:
        held = f"{len(bars) - len(missed)} of {len(bars)} cases within {BAR:g}"
        print(held + (f"; missed: {missed}" if missed else ""))
    if options.repeat:
        bars.append(repeat(options.repeat, options.ranks))
    if options.json is not None:
        write_bars(options.json, bars)
    return not all(found["holds"] for found in bars)


if __name__ == "__main__":
    sys.exit(main())
