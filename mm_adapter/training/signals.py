"""Ctrl-C and SIGTERM end a run between two steps, never within one."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from mm_adapter.errors import Stopped

_SAME = 2.0  # seconds in which a launcher that passes a signal on may repeat it


class StopRequest:
    """While entered, remembers SIGINT and SIGTERM in place of acting on them; one more, later, acts at once.

    Attributes:
        received: the one that came, or None.
    """

    received: signal.Signals | None = None

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
        """Take the ranks' sums of ``told`` as if each signal had come here too."""
        interrupted, terminated = sums
        if interrupted or terminated:
            self.received = signal.SIGINT if interrupted else signal.SIGTERM

    def act(self) -> None:
        """Raise what the signal stands for: ``KeyboardInterrupt`` after Ctrl-C, else ``Stopped``."""
        raise KeyboardInterrupt if self.received in (None, signal.SIGINT) else Stopped

    def _came(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and time.monotonic() - self._first > _SAME
        if self.received is None:
            self.received, self._first = signal.Signals(number), time.monotonic()
        if again or not self._patient:
            self.act()
