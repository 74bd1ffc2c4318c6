"""What hostile inputs have in common: each is tried in a forked process, measured and judged."""

import contextlib
import io
import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mm_adapter.cli import main as command_line
from mm_adapter.core.errors import UserError

SECONDS = 10.0
"""An input that takes longer has failed."""
_KILLED_AFTER = 2 * SECONDS
_ADDRESS_SPACE = 8 << 30  # bytes beyond what a process has: a bomb must not take the machine with it
ALLOWED = "out"
"""The folder beside an input that commands may write into."""


@dataclass
class Outcome:
    """What came of an input.

    Attributes:
        status: exit status of the command, 2 for a ``UserError`` of a reader, or the HTTP status; None where the
            process died or hung.
        said: all that was printed, the message of the error, or the body of the reply.
        value: what a reader returned, as JSON.
        seconds: that it took.
        peak: bytes of memory at most, of the process that dealt with it.
        failure: what is wrong whatever the input is: a traceback, a hang, a crash.
    """

    status: int | None
    said: str = ""
    value: Any = None
    seconds: float = 0.0
    peak: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Hostile:
    """An input, how it is tried, and what is right.

    Attributes:
        name: what it is, for the list of failures.
        kind: ``pictures``, ``texts``, ``tables``, ``models`` or ``http``; memory is held against that of ``group``.
        act: tries it; returns an ``Outcome``.
        right: says what is wrong with an answer that is no error; empty where it is right.
        must_fail: an answer would be wrong, whatever it says.
        group: well-meant inputs of this name took the memory that is compared with.
    """

    name: str
    kind: str
    act: Callable[[], Outcome]
    right: Callable[[Outcome], str] = field(default=lambda _: "")
    must_fail: bool = False
    group: str = ""


def command(*words: object, stdin: str | bytes = b"") -> Callable[[], Outcome]:
    """Return what runs the command line with these words in a process of its own."""
    arguments = [str(word) for word in words]
    content = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
    return lambda: forked(lambda: (command_line(arguments), None), content)


def reading(call: Callable[[], Any]) -> Callable[[], Outcome]:
    """Return what calls a reader in a process of its own; its value must be JSON."""

    def act() -> tuple[int, Any]:
        try:
            return 0, call()
        except UserError as error:
            print(f"mm-adapter: {error}")
            return 2, None

    return lambda: forked(act)


def forked(act: Callable[[], tuple[int, Any]], stdin: bytes = b"") -> Outcome:
    """Run a function in a forked process, bounded in time and memory; all imports are paid for already.

    Args:
        act: returns a status and a value that JSON can hold.
        stdin: that it may read.
    """
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run(act, stdin, writer)
    os.close(writer)
    received = b"".join(_blocks(reader, began + _KILLED_AFTER))
    os.close(reader)
    hung = time.monotonic() - began >= _KILLED_AFTER
    if hung:
        os.kill(child, signal.SIGKILL)
    _, ended, usage = os.wait4(child, 0)
    seconds = time.monotonic() - began
    try:
        found = json.loads(received)
    except ValueError:
        why = "it hung" if hung else f"the process died (status {ended})"
        return Outcome(None, seconds=seconds, peak=usage.ru_maxrss << 10, failure=why)
    return Outcome(found["status"], found["said"], found["value"], seconds, found["peak"], found["failure"])


def _run(act: Callable[[], tuple[int, Any]], stdin: bytes, writer: int) -> None:
    """Run in the child, which never returns."""
    result: dict[str, Any] = {"status": None, "value": None, "failure": ""}
    printed = os.memfd_create("said")
    said = io.TextIOWrapper(os.fdopen(printed, "wb", closefd=False), encoding="utf-8", write_through=True)
    try:
        os.setsid()
        # Of the system too: libraries and children of commands write there.
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        feed = os.memfd_create("stdin")
        os.write(feed, stdin)
        os.lseek(feed, 0, os.SEEK_SET)
        os.dup2(feed, 0)
        space = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (space + _ADDRESS_SPACE, resource.RLIM_INFINITY))
        reset_peak(os.getpid())
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            result["status"], result["value"] = act()
    except BaseException:
        result["failure"] = traceback.format_exc(limit=-6)
    try:
        said.flush()
        text = os.pread(printed, 1 << 24, 0).decode(errors="replace")
        if "Traceback (most recent call last)" in text and not result["failure"]:
            result["failure"] = text[text.index("Traceback") :][-3000:]
        content = json.dumps({**result, "said": text, "peak": peak(os.getpid())}).encode()
        with os.fdopen(writer, "wb") as file:
            file.write(content)
    finally:
        os._exit(0)


def _blocks(reader: int, end: float) -> Iterator[bytes]:
    """Yield what a pipe gives, until its end or a time."""
    while (left := end - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            block = os.read(reader, 1 << 20)
            if not block:
                return
            yield block


def reset_peak(process: int) -> None:
    """Let a process's peak of memory count from now on."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def peak(process: int) -> int:
    """Return the bytes of memory that a process had at most since ``reset_peak``."""
    return int(Path(f"/proc/{process}/status").read_text().split("VmHWM:")[1].split()[0]) << 10


def verdict(found: Outcome, hostile: Hostile) -> str:
    """Return what is wrong with an outcome, apart from memory and files; empty where it is as it should be."""
    if found.failure:
        return found.failure
    if found.seconds > SECONDS:
        return f"took {found.seconds:.1f} s"
    if hostile.kind == "http":
        return hostile.right(found)
    if found.status == 0:
        return "was taken" if hostile.must_fail else hostile.right(found)
    if found.status != 2:
        return f"ended with status {found.status}: {found.said[-300:]}"
    messages = [line for line in found.said.splitlines() if line.startswith("mm-adapter: ")]
    if len(messages) != 1 or len(messages[0]) < len("mm-adapter: ") + 20:
        return f"is not refused by one clear message: {found.said[-300:]!r}"
    if len(messages[0]) > 4000:
        return f"is refused by a message of {len(messages[0])} characters"
    return ""


def snapshot(tree: Path, allowed: tuple[Path, ...]) -> dict[str, tuple[int, int, int]]:
    """Return path -> size, time and mode of all that is in a tree but for some folders."""
    found: dict[str, tuple[int, int, int]] = {}
    skipped = {str(path) for path in allowed}
    waiting = [str(tree)]
    while waiting:
        folder = waiting.pop()
        for entry in os.scandir(folder):
            if entry.path in skipped:
                continue
            state = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
                found[entry.path] = (0, 0, state.st_mode)
            else:
                found[entry.path] = (state.st_size, state.st_mtime_ns, state.st_mode)
    return found
