"""Progress: a bar that moves on a terminal, and a plain line a minute where nobody watches one."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

LINE_SECONDS = 60.0
T = TypeVar("T")


class ProgressBar(Protocol):
    """What a loop says of its progress."""

    def update(self, n: int = 1) -> Any:
        """Count steps that are done."""

    def set_postfix_str(self, s: str = "") -> None:
        """Say something of the last step, behind the counts."""

    def write(self, s: str) -> None:
        """Print a line on stdout that does not tear the bar."""

    def __enter__(self) -> Any:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        """End, and leave the cursor on a line of its own."""


class ProgressLines:
    """Progress as lines on stderr, one a minute, for logs: no carriage return, nothing painted over.

    Args:
        total: steps in all.
        what: is done.
        unit: of a step.
        done: steps that were done before.
        quiet: say nothing.
    """

    def __init__(self, total: int, what: str, unit: str, done: int = 0, quiet: bool = False) -> None:
        self.total, self.what, self.unit, self.done, self.quiet = total, what, unit, done, quiet
        self._postfix = ""
        self._said = time.monotonic()

    def update(self, n: int = 1) -> None:
        """Count steps that are done; say so where the last line is a minute old."""
        self.done += n
        if not self.quiet and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            share = f" ({self.done / self.total:.0%})" if self.total else ""
            line = f"{self.what}: {self.done} of {self.total} {self.unit}s{share}{self._postfix}"
            print(line, file=sys.stderr, flush=True)

    def set_postfix_str(self, s: str = "") -> None:
        """Say something of the last step, behind the counts of the next line."""
        self._postfix = f", {s}" if s else ""

    def write(self, s: str) -> None:
        """Print a line on stdout."""
        print(s, flush=True)

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_: object) -> None:
        """End; there is nothing to clean up."""


def progress_bar(total: int, what: str, unit: str, quiet: bool = False, done: int = 0) -> ProgressBar:
    """Return the progress of a loop, on stderr.

    Args:
        total: steps in all.
        what: is done, in front of the counts.
        unit: of a step.
        quiet: show nothing.
        done: steps that were done before.
    """
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return ProgressLines(total, what, unit, done, quiet)
    # Imported here: it takes a tenth of a second, and only a terminal needs it.
    from tqdm import tqdm

    bar: ProgressBar = tqdm(total=total, initial=done, desc=what, unit=unit, dynamic_ncols=True)
    return bar


def with_progress(steps: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """Yield steps, and show how many are done."""
    with progress_bar(len(steps), what, unit) as bar:
        for step in steps:
            yield step
            bar.update()
