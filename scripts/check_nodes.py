"""A node that disappears in mid-run, and comes back: the run goes on, and ends where it would have.

    python scripts/check_nodes.py [--ranks N] [--json FILE]

Two nodes on loopback, of two ranks each by default, meet at a rendezvous (``torchrun --nnodes 1:2``). The second is
killed with all its processes; the first goes on alone from the last state. The second is started again and joins; both
see the run to its end. Its losses and its adapter are those of a run of one process within float32's rounding: how many
ranks share a step changes the order of sums alone.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bars import bar, write_bars
from tiny import adapter, kill_all, losses, start, training_options

PATIENCE = 300.0  # seconds for each thing that is waited for
TOLERANCE = 1e-4  # of losses and weights after some hundred steps on changing numbers of ranks


class Meeting:
    """Two nodes of one run.

    Args:
        folder: of model, data, run and logs.
        ranks: of each node.
    """

    def __init__(self, folder: Path, ranks: int) -> None:
        self.folder = folder
        self.ranks = ranks
        self.options = training_options(folder, "--epochs", "60", "--save-steps", "5", "--eval-every", "10")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def alone(self) -> Path:
        """Train in one process; return the run's folder."""
        out = self.folder / "alone"
        if start(["train", *self.options, "--out", str(out)], log=self.folder / "alone.log").wait():
            raise SystemExit((self.folder / "alone.log").read_text()[-3000:])
        return out

    def node(self, number: int) -> "subprocess.Popen[bytes]":
        """Start a node of the run in ``folder/shared``; the first one keeps the rendezvous."""
        launcher = ["--nnodes=1:2", "--max-restarts=5", "--rdzv-backend=c10d", "--rdzv-id=check"]
        launcher += [f"--rdzv-endpoint=127.0.0.1:{self.port}", "--local-addr=127.0.0.1"]
        launcher += [f"--rdzv-conf=last_call_timeout=3,join_timeout=120,is_host={int(number == 0)}"]
        arguments = ["train", *self.options, "--out", str(self.folder / "shared"), "--resume", "auto"]
        return start(arguments, self.ranks, launcher, log=self.folder / f"node-{number}.log")

    def events(self) -> list[dict[str, Any]]:
        """Return what the run has logged."""
        path = self.folder / "shared" / "metrics.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def said(self) -> str:
        """Return what the nodes said."""
        return "".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("node-*.log")))

    def wait(self, what: str, reached: Callable[[], bool]) -> None:
        """Wait for something, or end with what the nodes said."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > deadline:
                raise SystemExit(f"{what}: not within {PATIENCE:.0f} s\n{self.said()}")
            time.sleep(0.1)


def check(ranks: int) -> list[dict[str, Any]]:
    """Run it with nodes of ``ranks`` processes; return the bars."""
    folder = Path(tempfile.mkdtemp(prefix="mm-adapter-nodes-"))
    nodes: dict[int, subprocess.Popen[bytes]] = {}
    try:
        meeting = Meeting(folder, ranks)
        whole = meeting.alone()
        total = len(losses(whole))
        nodes = {number: meeting.node(number) for number in (0, 1)}
        meeting.wait("a start with both", lambda: _steps(meeting) > 0.15 * total)
        both = _both(meeting)
        kill_all(nodes[1])
        gone = _steps(meeting)
        print(f"both nodes: {both}; the second one killed at step {gone} of {total}", flush=True)
        meeting.wait("going on alone", lambda: _alone(meeting) and _steps(meeting) > gone + 5)
        back = _steps(meeting)
        nodes[1] = meeting.node(1)
        print(f"the first one went on alone; the second one back at step {back}", flush=True)
        meeting.wait("the end", lambda: nodes[0].poll() is not None)
        again = any(event.get("idle") is not None for event in meeting.events() if event["step"] > back)
        run = folder / "shared"
        if nodes[0].returncode:
            raise SystemExit(f"the first node ended with status {nodes[0].returncode}")
        of_losses = max(abs(a - b) for a, b in zip(losses(whole), losses(run), strict=True))
        mine, theirs = adapter(whole), adapter(run)
        of_weights = max(float((tensor - theirs[name]).abs().max()) for name, tensor in mine.items())
        print(f"ended with {nodes[0].returncode}; losses differ by {of_losses:.1e}, weights by {of_weights:.1e}")
    except BaseException:
        if nodes:
            print(meeting.said(), file=sys.stderr)
        raise
    finally:
        for node in nodes.values():
            kill_all(node)
        shutil.rmtree(folder, ignore_errors=True)
    value = max(of_losses, of_weights)
    return [
        bar("the run came to its end: exit status", nodes[0].returncode, 0, not nodes[0].returncode),
        bar("losses and weights", value, TOLERANCE, value <= TOLERANCE),
        bar("both nodes before and after", both and again, True, both and again),
    ]


def _steps(meeting: Meeting) -> int:
    return max((event["step"] for event in meeting.events()), default=0)


def _both(meeting: Meeting) -> bool:
    return f"{2 * meeting.ranks} ranks share" in meeting.said()


def _alone(meeting: Meeting) -> bool:
    return f"now {meeting.ranks}: the last digits" in meeting.said()


def main() -> int:
    """Check, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2, help="processes of each node")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    bars = check(options.ranks)
    if options.json is not None:
        write_bars(options.json, bars)
    return not all(found["holds"] for found in bars)


if __name__ == "__main__":
    sys.exit(main())
