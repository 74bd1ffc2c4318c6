"""One untrusted record becomes one `Question`, or a reason why not; files of records are read."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, TypeVar

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import refuse_pointer
from mm_adapter.data.question import MOST_CHARACTERS, Question

_MOST_PIPED = 64 << 20
TEXT_FIELDS = ("hint", "subject", "topic", "category", "skill", "lecture", "solution")


class BadRecord(ValueError):
    """A record that cannot become a question; its text is the reason, without the pid or the file."""


def question_from_record(pid: str, record: Any, split: str, image: Path | None) -> Question:
    """Return the question in ``record``: a mapping with the field names of ScienceQA's ``problems.json``.

    The question's text, its options and its answer must be there; the rest may be missing or null.

    Raises:
        BadRecord: a field is missing, of the wrong type or out of range.
    """
    if not isinstance(record, Mapping):
        raise BadRecord(f"is {kind_of(record)} where an object with question, choices and answer belongs")
    question = text_field(record, "question")
    if not question.strip():
        raise BadRecord("has no text in 'question'")
    options = _options(record.get("choices"))
    context, subject, topic, category, skill, lecture, solution = (text_field(record, name) for name in TEXT_FIELDS)
    return Question(
        pid=pid,
        question=question,
        options=options,
        answer=_answer(record.get("answer"), len(options)),
        context=context,
        image=image,
        subject=subject,
        topic=topic,
        category=category,
        skill=skill,
        grade=_grade(text_field(record, "grade")),
        split=split,
        lecture=lecture,
        solution=solution,
    )


def text_field(record: Mapping[str, Any], name: str) -> str:
    """Return the text in field ``name``, empty where it is missing or null.

    Raises:
        BadRecord: something else than text is there, or text that UTF-8 cannot hold.
    """
    return text_of(record.get(name), name)


def text_of(value: Any, name: str) -> str:
    """Return a field's text, empty for None; ``name`` is the field's.

    Raises:
        BadRecord: it is something else than text, or text that UTF-8 cannot hold.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(f"has {kind_of(value)} in '{name}' where text belongs")
    return writable(value, name)


def required_text(record: Any, name: str, blank: bool = False) -> str:
    """Return the text in field ``name``, which must be there; ``blank`` allows it to be empty.

    Raises:
        BadRecord: the record is no object, the field is missing, or it has no usable text.
    """
    if not isinstance(record, Mapping):
        raise BadRecord(f"is {kind_of(record)} where an object belongs")
    if record.get(name) is None:
        raise BadRecord(f"has no '{name}'")
    text = text_field(record, name)
    if not text.strip() and not blank:
        raise BadRecord(f"has no text in '{name}'")
    return text


def writable(text: str, name: str) -> str:
    """Return ``text`` when UTF-8 can hold it: JSON can smuggle in lone surrogates, which break every later write.

    Raises:
        BadRecord: it cannot, or the text is longer than ``MOST_CHARACTERS``.
    """
    if len(text) > MOST_CHARACTERS:
        raise BadRecord(f"has {len(text):,} characters in '{name}'; at most {MOST_CHARACTERS:,} are taken")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRecord(f"has broken characters (lone surrogates) in '{name}'") from None
    return text


def _options(value: Any) -> tuple[str, ...]:
    if value is None or value == []:
        raise BadRecord("has no options in 'choices'")
    if not isinstance(value, list) or not all(isinstance(option, str) for option in value):
        raise BadRecord("has something else than a list of texts in 'choices'")
    if len(value) < 2:
        raise BadRecord("has only one option in 'choices' where at least two belong")
    if not all(option.strip() for option in value):
        raise BadRecord("has an empty option in 'choices'")
    return tuple(writable(option, "choices") for option in value)


def _answer(value: Any, count: int) -> int:
    # bool is an int in Python, but "true" is no index.
    if isinstance(value, float):
        raise BadRecord(f"has {value} in 'answer', which is no whole number and so no index of an option")
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRecord(f"has {kind_of(value)} in 'answer' where the index of an option belongs")
    if not 0 <= value < count:
        raise BadRecord(f"has answer index {shortened(value)} out of range: its {count} options are 0 to {count - 1}")
    return value


def _grade(text: str) -> int:
    if not text:
        return 0
    found = re.fullmatch(r"grade(1[0-2]|[1-9])", text)
    if found is None:
        raise BadRecord(f"has {shortened(text)} in 'grade' where grade1 to grade12 belongs")
    return int(found[1])


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path lies in a folder when all links are followed."""
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


Record = TypeVar("Record")


def read_text(path: Path, what: str) -> str:
    """Return the UTF-8 text of ``path``; ``what`` names the file's role in the message.

    Raises:
        UserError: the file is missing, unreadable, or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            return _piped(path, what).decode("utf-8-sig")
        refuse_pointer(path)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: {what} does not exist. Check the path.") from None
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {what} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None


def _piped(path: Path, what: str) -> bytes:
    """Return what comes from a pipe or a device, which may have no end."""
    with open(path, "rb") as file:
        content = file.read(_MOST_PIPED + 1)
    if len(content) > _MOST_PIPED:
        raise UserError(f"{path}: {what} is no file, and has over {_MOST_PIPED >> 20} MB. Write it into a file.")
    return content


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
    if text.lstrip().startswith("["):
        records = list(_of_list(path, _parse(path, "", text)))
    else:
        whole = _one_object(text)
        records = list(_of_lines(path, text) if whole is None else _of_list(path, _listed(path, whole)))
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


def _one_object(text: str) -> dict[str, Any] | None:
    """Return the object that is the whole text and has more than a line; None where lines are values of their own."""
    first = text.lstrip().split("\n", 1)[0]
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None
    return None


def _listed(path: Path, value: dict[str, Any]) -> list[Any]:
    """Return the one list of objects in an object, such as that under ``data``.

    Raises:
        UserError: there is none, or there are several.
    """
    lists = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
    if len(lists) != 1:
        keys = ", ".join(list(value)[:5])
        raise UserError(
            f"{path}: valid JSON, but an object ({keys}) where a list of records belongs. Write a list, or one record "
            "a line."
        )
    return lists[0]


def _of_list(path: Path, values: list[Any]) -> Iterator[tuple[str, Any]]:
    for index, record in enumerate(values):
        yield f"record {index}", record


def _of_lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines: it also cuts at separators that JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _parse(path, f", line {number}", line)
