"""Contenders of a benchmark that take turns, each in a process of its own: what slows the machine slows all alike.

A benchmark starts a ``Contender`` for each, and asks them for a round one after another. In its process a contender
calls ``take_turns`` with what makes a round.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Round = dict[str, float]


class Contender:
    """A process that makes a round when it is asked to.

    Args:
        script: whose ``--worker`` takes what follows.
        settings: of the contender, as JSON.
    """

    def __init__(self, script: str, settings: Mapping[str, Any]) -> None:
        command = [sys.executable, script, "--worker", json.dumps(settings)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()  # ready, once it has warmed up

    def round(self) -> Round:
        """Return what a round measured."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Round:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit(f"a contender ended with status {self._process.wait()}; see above.")


def take_turns(make: Callable[[], Round]) -> int:
    """Answer every line of standard input with a round, the first one for warming up; return the exit status."""
    make()
    print("{}", flush=True)
    for _ in sys.stdin:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**make(), "peak_mib": peak}), flush=True)
    return 0


def compete(script: str, contenders: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, list[Round]]:
    """Let contenders make rounds by turns; return the rounds of each."""
    started = {name: Contender(script, settings) for name, settings in contenders.items()}
    names, results = list(started), {name: list[Round]() for name in started}
    for number in range(rounds):
        # None of them always comes right after the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            results[name].append(started[name].round())
            print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
    for contender in started.values():
        contender.close()
    return results


def median(rounds: Sequence[Round], key: str) -> float:
    """Return the median of one measure."""
    return statistics.median(measured[key] for measured in rounds)


def ratio(above: Sequence[Round], below: Sequence[Round], key: str) -> float:
    """Return the median over pairs of rounds of ``above`` over ``below``."""
    return statistics.median(one[key] / other[key] for one, other in zip(above, below, strict=True))


def worker_settings(parser: argparse.ArgumentParser) -> None:
    """Add the option with which a contender's process is started."""
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
