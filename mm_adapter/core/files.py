"""Write files so that a reader never meets half of one."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place in one step.

    Raises:
        UserError: the folder or file cannot be written (no permission, disk full); ``path`` is then unchanged.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _flush_folder(path.parent)
    except Exception as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        # safetensors reports a full disk as its own error type, with the system's words inside.
        if isinstance(error, OSError) or "os error" in str(error).lower() or "I/O error" in str(error):
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"{path}: cannot be written ({reason}). Free some space or choose another --out; nothing was replaced."
            ) from error
        raise
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def delete_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Delete what processes that were killed in mid-writing left beside some files of a folder."""
    for name in names:
        # mkstemp's names: eight of these letters.
        for path in folder.glob(f".{name}." + "[a-z0-9_]" * 8):
            path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    # The new name is a change of the folder: without this, a power cut could undo it after later files were written.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""

    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, fill)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Half a surrogate pair, which a model may write and UTF-8 cannot carry, is written out.
    text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    write_text(path, text + "\n")


def read_json(path: Path, what: str) -> Any:
    """Return the JSON value in ``path``; ``what`` names the file's role in the message.

    Raises:
        UserError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: {what} does not exist. Check the path.") from None
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {what} is not JSON ({error}). Restore or regenerate the file.") from error
