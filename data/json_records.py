"""Records in a JSON list, or one a line (JSONL), each with its place in the file for messages."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mm_adapter.core.errors import UserError
from mm_adapter.data.record import BadRecord

Record = TypeVar("Record")


def read_text(path: Path, what: str) -> str:
    """Return the UTF-8 text of ``path``; ``what`` names the file's role in the message.

    Raises:
        UserError: the file is missing, unreadable, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: {what} does not exist. Check the path.") from None
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {what} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None


def read_records(path: Path, what: str) -> list[tuple[str, Any]]:
    """Return ``(place, record)`` for every record of a JSON list or of a file with one JSON value a line.

    Places are ``record 3`` (from 0) in a list, ``line 3`` (from 1) in lines; empty lines are passed over.

    Raises:
        UserError: the file cannot be read or is not JSON, or nothing is in it.
    """
    return parse_records(path, read_text(path, what), what)


def parse_records(path: Path, text: str, what: str) -> list[tuple[str, Any]]:
    """Return the records in a text that was read already, as ``read_records`` does; ``path`` is for messages.

    Raises:
        UserError: the text is not JSON, or nothing is in it.
    """
    records = list(_of_list(path, text) if text.lstrip().startswith("[") else _of_lines(path, text))
    if not records:
        raise UserError(f"{path}: {what} is empty.")
    return records


def convert_records(path: Path, records: list[tuple[str, Any]], convert: Callable[[str, Any], Record]) -> list[Record]:
    """Return what ``convert`` makes of each record; it is given the number of the record, from 0, and the record.

    Raises:
        UserError: a record is bad; the first one is named by its place, with the reason and how many more there are.
    """
    converted: list[Record] = []
    bad: list[str] = []
    for number, (place, record) in enumerate(records):
        try:
            converted.append(convert(str(number), record))
        except BadRecord as reason:
            bad.append(f"{path}, {place}: {reason}")
    if bad:
        more = f" ({len(bad) - 1} more are bad.)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}. Mend it or take it out.{more}")
    return converted


def _parse(path: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}{place}: not JSON ({error}). Restore or regenerate the file.") from None


def _of_list(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for index, record in enumerate(_parse(path, "", text)):
        yield f"record {index}", record


def _of_lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines: it also cuts at separators that JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _parse(path, f", line {number}", line)
