"""The exceptions of the package: one for a person to read, one for a run that was asked to end."""

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
