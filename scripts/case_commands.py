"""What checks of cases have in common: run a command as a person would, and say what must be said."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

from mm_adapter.cli import main as command_line
from mm_adapter.core.errors import UserError

CASES: dict[str, Callable[[], None]] = {}


def case(function: Callable[[], None]) -> Callable[[], None]:
    """Register a check under its name: the case's folder."""
    CASES[function.__name__] = function
    return function


def run(*words: Any) -> tuple[int, str]:
    """Run the command line in this process; return its status and all that it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = command_line([str(word) for word in words])
    return status, said.getvalue()


def succeeds(*words: Any, says: str = "") -> str:
    """Run a command that must end well and say something."""
    status, said = run(*words)
    assert status == 0, f"{words}: status {status}: {said[-300:]}"
    assert says in said, f"{words}: {says!r} is not in {said[-600:]!r}"
    return said


def refuses(*words: Any, says: str) -> str:
    """Run a command that must be refused by one message that names something."""
    status, said = run(*words)
    assert status == 2, f"{words}: status {status}: {said[-300:]}"
    assert says.lower() in said.lower(), f"{words}: {says!r} is not in {said[-600:]!r}"
    assert "Traceback" not in said, said
    return said


def refused(call: Callable[[], Any], *says: str) -> None:
    """Call what must raise a ``UserError`` that names something."""
    found, message = attempt(call)
    assert message, f"not refused: {found!r:.200}"
    assert any(text.lower() in message.lower() for text in says), f"{says} is not in {message}"


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call gives, or None and the message of its ``UserError``."""
    try:
        return call(), ""
    except UserError as error:
        return None, str(error)


def score(*words: Any) -> str:
    """Score predictions; return what is printed."""
    return succeeds("score", *words)


def tiny_run(out: str) -> None:
    """Train a text-only adapter on TINY."""
    sizes = ["--layers", 2, "--prompt-length", 2, "--epochs", 1, "--warmup-epochs", 0, "--quiet"]
    succeeds("train", "--llama", "TINY", "--vision", "none", "--data", "chat.jsonl", "--out", out, *sizes)
