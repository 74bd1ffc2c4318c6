"""A table of questions about pictures, CSV or JSONL: columns ``image``, ``question``, ``answer``; and their folder."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, Turn
from mm_adapter.data.image_files import find_picture
from mm_adapter.data.json_records import convert_records, read_records, read_text
from mm_adapter.data.record import required_text

COLUMNS = ("image", "question", "answer")
_WHAT = "the table of questions"


def read_table(path: Path, images: Path | None = None) -> list[Conversation]:
    """Return one exchange per row.

    Args:
        path: ``.csv`` with a header, or records in JSON; other columns are passed over, ``image`` may be empty.
        images: folder that ``image`` is relative to; the table's own by default.

    Raises:
        UserError: the file cannot be read, a column is missing, or a row is bad: no question, no answer, a picture
            that is missing or outside the folder. Says in which line.
    """
    folder = path.parent if images is None else images
    records = _read_csv(path) if path.suffix.lower() == ".csv" else read_records(path, _WHAT)
    return convert_records(path, records, lambda place, record: exchange_from_record(place, record, folder))


def exchange_from_record(place: str, record: Any, images: Path) -> Conversation:
    """Return the exchange in one row; ``place`` is its id.

    Raises:
        BadRecord: it is none; see ``read_table``.
    """
    turns = (Turn(USER, required_text(record, "question").strip()), Turn(ASSISTANT, required_text(record, "answer")))
    named = record.get("image") if isinstance(record, Mapping) else None
    return Conversation(place, turns, None if named in (None, "") else find_picture(images, named))


def _read_csv(path: Path) -> list[tuple[str, Any]]:
    # Universal newlines would change line breaks inside quoted cells; the module wants to see them as they are.
    reader = csv.DictReader(io.StringIO(read_text(path, _WHAT), newline=""), strict=True)
    rows: list[tuple[str, Any]] = []
    try:
        header = reader.fieldnames or []
        missing = [name for name in COLUMNS[1:] if name not in header]
        if missing:
            named = ", ".join(COLUMNS)
            nearest = suggestion(missing[0], list(header))
            raise UserError(f"{path}: {_WHAT} has no column {missing[0]!r}{nearest}. Its first line must name {named}.")
        for row in reader:
            if None in row:
                raise UserError(f"{path}, line {reader.line_num}: more cells than columns. Quote cells with commas.")
            rows.append((f"line {reader.line_num}", row))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.reader.line_num}: not CSV ({error}). Quote cells with line breaks."
        ) from None
    if not rows:
        raise UserError(f"{path}: {_WHAT} is empty.")
    return rows
