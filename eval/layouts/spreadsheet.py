"""Tables of unknown origin, as text or as an Excel workbook, as rows that name their place."""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError

Row = tuple[str, dict[str, str]]
"""Place in the file, for messages, and column -> cell."""

_LARGEST = 512 * 2**20  # bytes of a workbook once unpacked
_MOST_PARTS = 1000
_MOST_ROWS = 1_000_000
_WORKBOOK = b"PK\x03\x04"
_SAVE = "Save the table as tab-separated text (tsv)."


def is_workbook(path: Path) -> bool:
    """Say whether a file is a zip archive, as Excel's workbooks are."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == _WORKBOOK
    except (OSError, ValueError):  # told by whoever reads the text
        return False


def is_table(text: str, column: str) -> bool:
    """Say whether the first line of ``text`` is a head of columns with ``column`` among them."""
    head = text.lstrip("\ufeff").split("\n", 1)[0]
    return _delimiter(head) in head and column in _cells(head)


def table_rows(path: Path, text: str) -> Iterator[Row]:
    """Yield the rows of a table that is text: cells between tabs, or between commas where the head has no tab.

    Raises:
        UserError: a row has more cells than the head, or a cell is too long or never ends.
    """
    text = text.lstrip("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.split("\n", 1)[0]), strict=True)
    try:
        head = next(reader)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _row(f"{path}, line {reader.line_num}", head, cells)
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: the table cannot be read ({error}). Leave out a column 'image', and "
            "close every quote."
        ) from None


def workbook_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of the first sheet of an Excel workbook.

    Raises:
        UserError: it is no workbook, or larger than any file of predictions.
    """
    from openpyxl import load_workbook

    try:
        _check_archive(path)
        with open(path, "rb") as file:
            workbook = load_workbook(file, read_only=True, data_only=True)
            yield from _sheet_rows(path, workbook.worksheets[0].iter_rows(values_only=True))
    except UserError:
        raise
    except Exception as error:  # a damaged workbook fails anywhere in the package that reads it
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{path}: the file is a zip archive, but no Excel workbook of VLMEvalKit ({reason[:200]}). {_SAVE}"
        ) from None


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > _LARGEST:
            raise UserError(f"{path}: the workbook is larger than {_LARGEST >> 20} MiB once unpacked. {_SAVE}")
        for part in parts:
            with archive.open(part) as content:
                # Office programs write no document type; it is where entities that expand without end are declared.
                if b"<!DOCTYPE" in content.read(4096).upper():
                    raise UserError(f"{path}: the workbook's part {part.filename!r} declares entities. {_SAVE}")


def _sheet_rows(path: Path, rows: Iterable[Sequence[Any]]) -> Iterator[Row]:
    head: list[str] | None = None
    for number, cells in enumerate(rows, start=1):
        written = [_cell(cell) for cell in cells]
        if number > _MOST_ROWS:
            raise UserError(f"{path}: the sheet has more than {_MOST_ROWS:,} rows. {_SAVE}")
        if head is None:
            head = written
        elif any(written):
            yield _row(f"{path}, row {number}", head, written)


def _row(where: str, head: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) > len(head) and any(cells[len(head) :]):
        raise UserError(f"{where}: the row has {len(cells)} cells, the head {len(head)}. Quote cells that hold tabs.")
    return where, dict(zip((name.strip() for name in head), cells, strict=False))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    # A spreadsheet knows no whole numbers: an index of 3 comes as 3.0.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _delimiter(head: str) -> str:
    return "\t" if "\t" in head else ","


def _cells(head: str) -> list[str]:
    return [cell.strip().strip('"') for cell in head.split(_delimiter(head))]
