"""Progress is a line a minute where nobody watches, and nothing at all where it is unwanted."""

import io
import sys

import pytest

from mm_adapter.core import progress
from mm_adapter.core.progress import ProgressLines, progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is moved."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the number of steps, with the last thing said of them; no carriage return."""
    with progress_bar(1000, "training", "step", done=100) as bar:
        for _ in range(900):
            clock[0] += 0.5
            bar.set_postfix_str("loss 0.5")
            bar.update()
        bar.write("validated")
    out, err = capsys.readouterr()
    assert out == "validated\n"
    assert err.splitlines() == [
        f"training: {100 + 120 * minute} of 1000 steps ({(100 + 120 * minute) / 1000:.0%}), loss 0.5"
        for minute in range(1, 8)
    ]
    assert "\r" not in err


def test_short_and_quiet_loops_say_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A loop of under a minute, and any quiet one."""
    for quiet, seconds in ((False, 50.0), (True, 500.0)):
        with progress_bar(2, "training", "step", quiet) as bar:
            clock[0] += seconds
            bar.update(2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("term", "moves"), [("xterm", True), ("dumb", False)])
def test_a_bar_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch, term: str, moves: bool) -> None:
    """A terminal that can be painted on gets a bar."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", term)
    with progress_bar(2, "training", "step") as bar:
        bar.update()
    assert isinstance(bar, ProgressLines) is not moves
    assert ("\r" in sys.stderr.getvalue()) is moves  # type: ignore[attr-defined]
