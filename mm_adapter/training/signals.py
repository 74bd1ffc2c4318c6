"""Ctrl-C and SIGTERM end a run between two steps, never within one."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from mm_adapter.core.errors import Stopped

_SAME = 2.0  # seconds in which a launcher that passes a signal on may repeat it


class StopRequest:
    """While entered, remembers SIGINT and SIGTERM in place of acting on them; one more, later, acts at once.

    Attributes:
        received: the one that came to this process, or None.
        agreed: the one after which all ranks end, or None; from then on no further one cuts the saving short.
    """

    received: signal.Signals | None = None
    agreed: signal.Signals | None = None

    def __init__(self) -> None:
        self._patient = True
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Handlers belong to the main thread; a run on another one is stopped by whoever started it.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end what is done here wherever it is: nothing of it needs to be kept."""
        self._patient = False
        try:
            if self.received is not None:
                self.act()
            yield
        finally:
            self._patient = True

    def told(self) -> tuple[float, float]:
        """Return what the ranks add up, so that all of them end after the same step."""
        return float(self.received is signal.SIGINT), float(self.received is signal.SIGTERM)

    def agree(self, sums: Sequence[float]) -> None:
        """Take the ranks' sums of ``told``: where any of them was asked to end, all do, after the same step."""
        interrupted, terminated = sums
        if interrupted or terminated:
            self.agreed = signal.SIGINT if interrupted else signal.SIGTERM

    def act(self) -> None:
        """Raise what was asked for: ``KeyboardInterrupt`` after Ctrl-C, else ``Stopped``."""
        raise Stopped if (self.agreed or self.received) is signal.SIGTERM else KeyboardInterrupt

    def _came(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and time.monotonic() - self._first > _SAME
        if self.received is None:
            self.received, self._first = signal.Signals(number), time.monotonic()
        if self.agreed is None and (again or not self._patient):
            self.act()
