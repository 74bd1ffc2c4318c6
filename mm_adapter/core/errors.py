"""The exceptions of the package, for a person to read or for a run that was asked to end, and words of messages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something that the user can mend: says what was wrong, where, and what to do.

    The command line prints the message alone on stderr and exits with status 2; a library caller can catch it.
    """


class Stopped(BaseException):
    """A run was asked to end by SIGTERM, and its state is kept.

    Like ``KeyboardInterrupt`` no ``Exception``: nothing that handles failures is to handle it.
    """


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Put ``path`` before the message of a ``UserError`` that does not name it yet."""
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


def suggestion(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return ``", did you mean 'x'?"`` for the known name nearest to ``name``, or an empty string."""
    from difflib import get_close_matches

    nearest = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {nearest[0]!r}?" if nearest else ""


def limits_text(
    gt: float | None = None, ge: float | None = None, lt: float | None = None, le: float | None = None
) -> str:
    """Return a range in words, such as ``at least 0 and less than 1``; empty where there is no limit."""
    limits = (("greater than", gt), ("at least", ge), ("less than", lt), ("at most", le))
    return " and ".join(f"{words} {_number(value)}" for words, value in limits if value is not None)


def whole_number(text: str) -> int | None:
    """Return the whole number that a word of a command line is: digits, perhaps with a sign; None where it is none."""
    try:
        return int(text) if re.fullmatch("[-+]?[0-9]+", text) else None
    except ValueError:  # thousands of digits
        return None


def _number(value: float) -> str:
    return "2 ** 63" if value == 2**63 else f"{value:g}"
