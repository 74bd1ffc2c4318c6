"""Hostile inputs through command line, API and readers: each one clear error or a right answer, and nothing else.

    python scripts/check_hostile_input.py [--seed N] [--count 500] [--only N] [--json FILE]

Pictures, texts, datasets, models and HTTP by turns, drawn from the seed; an input is the same whichever others are
tried (``--only``). Every command runs in a forked process, the API in a server process on loopback. An input fails
where it takes over 10 s, ends in a traceback, a crash or a hang, is refused without a reason, is answered wrongly,
touches a file beyond its output folder, or takes more than twice the memory of well-meant inputs of its kind.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import hostile_http
import hostile_models
import hostile_pictures
import hostile_tables
import hostile_texts
import torch
from bars import bar, write_bars
from hostile_process import ALLOWED, Hostile, Outcome, snapshot, verdict
from hostile_server import HostileServer, tools
from served import ServerProcess, write_adapters
from tiny import write_llama

from mm_adapter.core.files import EFFICIENTNET_LITE0, fetch
from mm_adapter.llama.checkpoints.load import load_llama

DRAWN: dict[str, tuple[Callable[[Random, Path, dict[str, Any], int], Hostile], Any]] = {
    "pictures": (hostile_pictures.draw_picture, hostile_pictures.well_meant),
    "texts": (hostile_texts.draw_text, hostile_texts.well_meant),
    "tables": (hostile_tables.draw_table, hostile_tables.well_meant),
    "models": (hostile_models.draw_model, hostile_models.well_meant),
    "http": (hostile_http.draw_request, hostile_http.well_meant),
}
COMMON = ("datasets", "transformers.models.auto.tokenization_auto", "mm_adapter.training.run", "mm_adapter.data.hub")
"""Modules that commands import when they need them: once for all inputs."""
BOUNDS = ("--queue", "16", "--rows", "8", "--seconds", "8")
"""Of the server: floods need not be large."""


@contextlib.contextmanager
def prepared(place: Path) -> Iterator[dict[str, Any]]:
    """Write a base, adapters and a tree that nothing may touch into ``place``; serve them within the block."""
    canary = place / "canary"
    canary.mkdir(parents=True)
    (canary / "secret.png").write_bytes(hostile_pictures.encoded(hostile_pictures.noise(Random(0), 9, 9), "png"))
    (canary / "secret.txt").write_text("secret")
    for name in ("cache", "home", "tmp", "inputs"):
        (place / name).mkdir()
    for module in COMMON:
        importlib.import_module(module)
    tower = fetch(EFFICIENTNET_LITE0).parent
    shutil.copytree(tower, place / "cache" / tower.name)
    changed = {"HOME": place / "home", "TMPDIR": place / "tmp", "MM_ADAPTER_CACHE": place / "cache"}
    # Libraries have caches of their own.
    changed |= {"HF_HOME": place / "cache" / "hub", "HF_DATASETS_CACHE": place / "cache" / "datasets"}
    os.environ |= {name: str(path) for name, path in changed.items()}
    tempfile.tempdir = None
    # With threads of its own a process cannot be forked.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    base = write_llama(place / "models" / "llama")
    adapters = write_adapters(place / "models", load_llama(str(base)))
    log = place / "log"
    with ServerProcess(str(base), adapters, log, *BOUNDS) as process:
        server = HostileServer(process, log)
        yield {"llama": base, "canary": canary, "server": server, "log": log, **adapters, **tools(server)}


class Trial:
    """Tries inputs one after another.

    Args:
        place: folder of all.
        places: what inputs are about, see ``prepared``.
        seed: of all draws.
        show: print a line for every input.

    Attributes:
        failures: number, name and reason of each input that failed.
        kinds: how many there were of each kind, and how many were answered.
        longest, largest: seconds of the slowest input; memory as a share of a well-meant one's, of the largest.
        strays: files beyond output folders that were touched.
    """

    def __init__(self, place: Path, places: dict[str, Any], seed: int, show: bool) -> None:
        self._place, self._places, self._seed, self._show = place, places, seed, show
        self._usual: dict[str, int] = {}
        self.failures: list[tuple[int, str, str]] = []
        self.kinds: Counter[str] = Counter()
        self.longest = self.largest = 0.0
        self.strays = self.broken = self.wrong = 0

    def measure(self) -> None:
        """Take the memory of well-meant inputs.

        Raises:
            SystemExit: one of them fails: nothing could be told of others then.
        """
        for kind, (_, well_meant) in DRAWN.items():
            folder = self._place / "inputs" / f"well-meant-{kind}"
            folder.mkdir()
            for hostile in well_meant(Random(kind), folder, self._places):
                found = hostile.act()
                reason = verdict(found, hostile)
                if reason or found.status not in (0, 200):
                    raise SystemExit(f"the well-meant input {hostile.name!r} fails: {reason or found.said[-500:]}")
                self._usual[hostile.group] = max(self._usual.get(hostile.group, 0), found.peak)
                shutil.rmtree(folder / ALLOWED, ignore_errors=True)
            shutil.rmtree(folder)

    def input(self, number: int) -> None:
        """Draw an input and try it; say what is wrong with it."""
        kinds = list(DRAWN)
        kind = kinds[number % len(kinds)]
        folder = self._place / "inputs" / str(number)
        folder.mkdir()
        draw = Random(f"{self._seed}/{number}")
        hostile = DRAWN[kind][0](draw, folder, self._places, number // len(kinds))
        aside = (folder / ALLOWED, self._place / "cache", self._places["log"])
        before = snapshot(self._place, aside)
        found = hostile.act()
        after = snapshot(self._place, aside)
        reasons = [verdict(found, hostile)]
        touched = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        if touched:
            self.strays += len(touched)
            reasons.append(f"touched {', '.join(os.path.relpath(path, self._place) for path in touched[:5])}")
        share = found.peak / self._usual[hostile.group]
        if share > 2:
            reasons.append(f"took {found.peak >> 20} MB, well-meant ones {self._usual[hostile.group] >> 20}")
        self._count(number, kind, hostile, found, share, [reason for reason in reasons if reason])
        shutil.rmtree(folder)

    def _count(
        self, number: int, kind: str, hostile: Hostile, found: Outcome, share: float, reasons: list[str]
    ) -> None:
        self.kinds[kind] += 1
        self.kinds[f"{kind} answered"] += found.status in (0, 200)
        self.longest, self.largest = max(self.longest, found.seconds), max(self.largest, share)
        self.broken += bool(found.failure)
        self.wrong += bool(reasons) and not found.failure
        if self._show:
            said = found.said.strip().splitlines() or [str(found.value)]
            print(f"{number}  {hostile.name}: {found.status}, {found.seconds:.1f} s, {share:.2f}: {said[-1][:300]}")
        if reasons:
            self.failures.append((number, hostile.name, "; ".join(reasons)))
            print(f"--only {number}  FAILS  {hostile.name}\n    {'; '.join(reasons)[-1500:]}", flush=True)

    def bars(self) -> list[dict[str, Any]]:
        """Return what was measured."""
        count = sum(self.kinds[kind] for kind in DRAWN)
        return [
            bar(
                "inputs that end in one clear error or a right answer",
                count - len(self.failures),
                count,
                not self.failures,
            ),
            bar("tracebacks, crashes, hangs", self.broken, 0, not self.broken),
            bar("seconds of the slowest", self.longest, 10, self.longest <= 10),
            bar("memory, of that of well-meant inputs", self.largest, 2, self.largest <= 2),
            bar("files touched beyond output folders", self.strays, 0, not self.strays),
        ]


def main() -> int:
    """Try all inputs, or one of them; print a line for each that fails, then the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--count", type=int, default=500, help="how many inputs")
    parser.add_argument("--start", type=int, default=0, help="number of the first one")
    parser.add_argument("--only", type=int, help="the input of this number alone")
    parser.add_argument("--show", action="store_true", help="print what came of every input, not of failures alone")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    result = None if options.json is None else options.json.absolute()
    numbers = range(options.start, options.start + options.count) if options.only is None else [options.only]
    bars = try_inputs(options.seed, numbers, options.show)
    if result is not None:
        write_bars(result, bars)
    return 0 if all(item["holds"] for item in bars) else 1


def try_inputs(seed: int, numbers: "range | list[int]", show: bool = False) -> list[dict[str, Any]]:
    """Try the inputs of some numbers, perhaps with a line for each; return the bars."""
    with tempfile.TemporaryDirectory() as found:
        place = Path(found).resolve()
        with prepared(place) as places:
            os.chdir(place / "home")
            trial = Trial(place, places, seed, show)
            trial.measure()
            for number in numbers:
                trial.input(number)
            os.chdir("/")
    for kind in DRAWN:
        print(
            f"{kind:<9} {trial.kinds[kind]:>4} inputs, {trial.kinds[f'{kind} answered']} answered, the others refused"
        )
    bars = trial.bars()
    for item in bars:
        print(
            f"{item['name']:<55} {item['value']:>10.2f}  bar {item['bar']:<6} {'holds' if item['holds'] else 'MISSED'}"
        )
    return bars


if __name__ == "__main__":
    sys.exit(main())
