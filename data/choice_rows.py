"""Options of a row in every usual form, and the option that its answer names: by index, letter or text."""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.columns import MAX_OPTIONS, Columns
from mm_adapter.data.record import BadRecord, kind_of, writable

READINGS = ("index", "letter", "text")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARKED = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_LABELLED = re.compile(r"[(\[]?([A-Za-z]|[0-9]{1,2})[)\]][.:]?\s+(\S.*)", re.DOTALL)
_CELL_LIMIT = 100_000
# What a dataset that names no kind of school leaves empty.
_TEXT_ROLES = {"hint": "context", "lecture": "lecture", "solution": "solution"} | {
    role: role for role in ("subject", "topic", "category", "skill")
}


@dataclass(frozen=True)
class ChoiceRow:
    """A row whose options are read and whose answer is not yet.

    Attributes:
        pid: of the question.
        record: fields as ``question_from_record`` takes them, without the answer.
        options: texts.
        answer: as it stands in the row.
        labels: names of the options where the row has some of its own.
        typed: the options were texts, so that a whole number as answer can only be an index.
        image: as it stands in the row.
        numbered: the columns of its options count from 1, so that a number as answer may do so too.
    """

    pid: str
    record: Mapping[str, Any]
    options: tuple[str, ...]
    answer: Any
    labels: tuple[str, ...] = ()
    typed: bool = True
    image: Any = None
    numbered: bool = False

    @property
    def readings(self) -> dict[str, int]:
        """Way of reading the answer -> index of the option that it names, for the ways that name one."""
        found: dict[str, int] = {}
        number = whole_index(self.answer)
        if number is not None and 0 <= number < len(self.options):
            found["index"] = number
        if isinstance(self.answer, bool | float) and number is None:
            return found
        text = str(self.answer).strip()
        if self.labels:
            if text in self.labels:
                return {"letter": self.labels.index(text)}
            found |= self._by_label(text)
        elif (marked := _MARKED.fullmatch(text)) and _LETTERS.index(marked[1].upper()) < len(self.options):
            found["letter"] = _LETTERS.index(marked[1].upper())
        if self.numbered and number is not None and 1 <= number <= len(self.options):
            found["letter"] = number - 1
        if isinstance(self.answer, int) and self.typed:
            return found
        for same in (lambda option: option == text, lambda option: option.casefold() == text.casefold()):
            named = [index for index, option in enumerate(self.options) if same(option.strip())]
            if len(named) == 1:
                found["text"] = named[0]
                break
        return found

    def _by_label(self, text: str) -> dict[str, int]:
        """Return what an answer names by a label in another letter case or in brackets, and perhaps its words."""
        marked, both = _MARKED.fullmatch(text), _LABELLED.fullmatch(text)
        wanted = (marked or both or [text, text])[1].casefold()
        near = [index for index, label in enumerate(self.labels) if label.casefold() == wanted]
        if len(near) != 1:
            return {}
        if both and both[2].casefold() != self.options[near[0]].strip().casefold():
            return {}
        return {"text" if both else "letter": near[0]}


def choice_row(columns: Columns, place: str, record: Any) -> ChoiceRow:
    """Return a row with its options read; ``place`` is its id where it has none.

    Raises:
        BadRecord: it is no record, or has no usable options or no answer.
    """
    if not isinstance(record, Mapping):
        raise BadRecord(f"is {kind_of(record)} where an object with a question, options and an answer belongs")
    if columns.options:
        cells = [cell.strip() if isinstance(cell := record.get(name), str) else cell for name in columns.options]
        while cells and _is_empty(cells[-1]):
            cells.pop()
        gap = next((name for name, cell in zip(columns.options, cells, strict=False) if _is_empty(cell)), None)
        if gap is not None:
            raise BadRecord(f"has no option in '{gap}' but later ones")
        found: Any = cells
        labels: tuple[str, ...] = ()
    else:
        found, labels = _listed(columns.value(record, "options"), columns.name("options"))
    options = tuple(_option(option, columns.name("options")) for option in found)
    if len(options) > MAX_OPTIONS:
        raise BadRecord(f"has {len(options)} options; at most {MAX_OPTIONS} can be asked")
    answer = columns.value(record, "answer")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if answer is None:
        raise BadRecord(f"has no answer in '{columns.name('answer')}'")
    fields: dict[str, Any] = {
        "question": columns.value(record, "question"),
        "choices": list(options),
        "grade": _grade(columns.value(record, "grade")),
    }
    fields |= {name: columns.value(record, role) for name, role in _TEXT_ROLES.items()}
    own = columns.value(record, "id")
    return ChoiceRow(
        pid=str(own) if isinstance(own, str | int) else place,
        record=fields,
        options=options,
        answer=answer,
        labels=labels,
        typed=all(isinstance(option, str) for option in found) and not columns.options,
        image=columns.value(record, "image"),
        numbered=bool(columns.options) and columns.options[0].strip().endswith("1"),
    )


def choose_reading(source: str, rows: Iterable[ChoiceRow], wanted: str | None = None) -> str | None:
    """Return how the answers of a table are to be read: by ``index``, ``letter`` or ``text``.

    The way that fits every row is taken. Where none does, rows may differ in their ways (None), as long as no row
    can be read in two that name different options.

    Raises:
        UserError: answers can be read in two ways that differ, or count from 1 where nothing else does.
    """
    if wanted is not None:
        return wanted
    rows = list(rows)
    _refuse_counts_from_one(source, rows)
    fits = set(READINGS)
    doubtful: dict[tuple[str, str], ChoiceRow] = {}
    for row in rows:
        found = row.readings
        if found:
            fits &= set(found)
        for first in found:
            for second in found:
                if found[first] != found[second]:
                    doubtful.setdefault((first, second), row)
    known = [reading for reading in READINGS if reading in fits]
    for first in known:
        for second in known:
            if (first, second) in doubtful:
                raise _doubt(source, doubtful[first, second], first, second)
    if known:
        return known[0]
    if doubtful:
        (first, second), row = next(iter(doubtful.items()))
        raise _doubt(source, row, first, second)
    return None


def _refuse_counts_from_one(source: str, rows: Iterable[ChoiceRow]) -> None:
    """Refuse indices of which one is beyond the last option and none is 0: left out alone, it would hide the others.

    Raises:
        UserError: answers are so.
    """
    beyond: ChoiceRow | None = None
    for row in rows:
        number = whole_index(row.answer)
        if number is None or number > len(row.options) or (number == 0 and "text" not in row.readings):
            return
        if number == len(row.options) and not row.readings:
            beyond = beyond or row
    if beyond is not None:
        raise UserError(
            f"{source}: question {beyond.pid[:80]!r} has answer index {beyond.answer} out of range: its "
            f"{len(beyond.options)} options are 0 to {len(beyond.options) - 1}, and no answer is 0. Answers seem to "
            "count from 1; write them from 0 or as letters, or say that they are right with --answers index."
        )


def _doubt(source: str, row: ChoiceRow, first: str, second: str) -> UserError:
    found = row.readings
    one, other = (f"{row.options[found[way]][:40]!r} by {way}" for way in (first, second))
    return UserError(
        f"{source}: question {row.pid[:80]!r} has the answer {str(row.answer)[:40]!r}, which is {one} and {other}. Say "
        f"how answers are meant with --answers {first} or --answers {second}."
    )


def whole_index(value: Any) -> int | None:
    """Return a whole number, also in text, or in the 1.0 that a table with empty cells makes of it."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    found = re.fullmatch(r"\s*(\d{1,4})(?:\.0)?\s*", value) if isinstance(value, str) else None
    return int(found[1]) if found else None


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell


def _listed(value: Any, name: str) -> tuple[Sequence[Any], tuple[str, ...]]:
    """Return options of a list, of an object by label, or of a cell of text, with their labels where they have some.

    Raises:
        BadRecord: they are none of these.
    """
    if isinstance(value, str):
        value = parsed_list(value, name)
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), list) and isinstance(value.get("label"), list):
            return value["text"], _labels([str(label) for label in value["label"]], len(value["text"]), name)
        filled = {str(label): option for label, option in value.items() if option is not None}
        return list(filled.values()), _labels(list(filled), len(filled), name)
    if value is None or value == []:
        raise BadRecord(f"has no options in '{name}'")
    if not isinstance(value, list | tuple):
        raise BadRecord(f"has something else than a list of texts in '{name}'")
    return value, ()


def _labels(labels: list[str], count: int, name: str) -> tuple[str, ...]:
    if len(labels) != count or len(set(labels)) != count:
        raise BadRecord(f"has options in '{name}' that do not go with their labels")
    return tuple(labels)


def parsed_list(text: str, name: str) -> Any:
    """Return the list or object in a cell, in JSON or Python, or its parts between line ends, bars or semicolons.

    Parts that are lettered or counted, ``(a) red | (b) blue``, are an object by label.
    """
    text = text.strip()
    parts = next((_parts(text, separator) for separator in ("\n", "|", ";") if separator in text), [])
    labelled = _by_labels(parts)
    if labelled:
        return labelled
    if text[:1] in "[{(" and text[-1:] in "]})":
        if len(text) > _CELL_LIMIT:
            raise BadRecord(f"has more than {_CELL_LIMIT:,} characters in '{name}'")
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            # Python joins the texts of ['a' 'b'], which is how an array of NumPy is printed.
            if isinstance(found, list | tuple) and re.search(r"""(['"])\s+\1""", text) and parse is ast.literal_eval:
                break
            return found
        raise BadRecord(f"has a list in '{name}' that is neither JSON nor Python")
    if parts:
        return parts
    raise BadRecord(f'has something else than a list of texts in \'{name}\'; write ["a", "b"] or a | b')


def _parts(text: str, separator: str) -> list[str]:
    parts = [part.strip() for part in text.split(separator)]
    return [part for part in parts if part] if separator == "\n" else parts


def _by_labels(parts: Sequence[str]) -> dict[str, str]:
    """Return label -> text of parts that are labelled in order, ``(a)``, ``b)`` or ``[3]``; else nothing."""
    found = [_LABELLED.fullmatch(part) for part in parts]
    labels = [match[1] for match in found if match]
    counted = [str(number + 1) for number in range(len(parts))]
    lettered = list(_LETTERS[: len(parts)])
    if len(parts) < 2 or [label.upper() for label in labels] not in (lettered, counted):
        return {}
    return {match[1]: match[2] for match in found if match}


def _option(option: Any, name: str) -> str:
    if isinstance(option, bool) or not isinstance(option, str | int | float):
        raise BadRecord(f"has something else than a list of texts in '{name}'")
    return writable(str(option), name)


def _grade(value: Any) -> Any:
    number = whole_index(value)
    return value if number is None else f"grade{number}"
