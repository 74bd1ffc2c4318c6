"""Runs of ``mm-adapter`` with several ranks, one run after another, from a process that has imported all of it once.

A rank is a fork of that process, which saves the imports, most of a short run's time. It ends as every Python process
does, with its threads as they are then: that is what such runs are repeated for, and what the forks of
``multiprocessing`` leave out.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120


class ForkedRanks:
    """Starts the process that is forked, as a context manager."""

    def __enter__(self) -> "ForkedRanks":
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=environment)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.communicate()

    def run(self, arguments: list[str], ranks: int, log: Path) -> list[int]:
        """Run once; return the exit statuses of the ranks, negative ones for signals."""
        from torch.distributed import TCPStore

        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        # As torchrun says it: the store is there, and no rank has to make it.
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        run = {"arguments": arguments, "ranks": ranks, "log": str(log), "environment": where}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(run), file=self.process.stdin, flush=True)
        statuses: list[int] = json.loads(self.process.stdout.readline())
        return statuses


def become_rank(rank: int, run: dict[str, Any]) -> None:
    """Make this process one rank of a run."""
    number, count = str(rank), str(run["ranks"])
    os.environ.update(run["environment"], RANK=number, LOCAL_RANK=number, WORLD_SIZE=count, LOCAL_WORLD_SIZE=count)
    log = os.open(run["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    # Ranks that wait for each other for ever have died too.
    signal.alarm(SECONDS)
    # A thread gets the interpreter when another lets go of it, and no sooner: what is late now and then is so often.
    sys.setswitchinterval(SECONDS)


def fork(runs: Iterable[str]) -> list[str] | None:
    """Fork the ranks of each run, a line of JSON, and answer with their statuses; in a rank return its arguments."""
    for line in runs:
        run = json.loads(line)
        processes = []
        for rank in range(run["ranks"]):
            process = os.fork()
            if process == 0:
                become_rank(rank, run)
                arguments: list[str] = run["arguments"]
                return arguments
            processes.append(process)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        print(json.dumps(statuses), flush=True)
    return None


def work() -> int:
    """Import everything, then fork; return the exit status, of a rank too."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import torch
    import torch._dynamo  # optimisers import it at their first step

    import mm_adapter.cli.train
    import mm_adapter.distributed.sharding
    import mm_adapter.training.run
    import mm_adapter.vision.backbones  # noqa: F401
    from mm_adapter.cli import main

    # A fork has no threads but its own: here must be none that it would miss.
    torch.set_num_threads(1)
    arguments = fork(sys.stdin)
    return 0 if arguments is None else main(arguments)


if __name__ == "__main__":
    sys.exit(work())
