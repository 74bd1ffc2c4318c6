"""One untrusted record with ScienceQA's field names becomes one `Question`, or a reason why not."""

import re
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from mm_adapter.data.question import Question

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
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(f"has {kind_of(value)} in '{name}' where text belongs")
    return _writable(value, name)


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


def _writable(text: str, name: str) -> str:
    """Return ``text`` when UTF-8 can hold it: JSON can smuggle in lone surrogates, which break every later write."""
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
    return tuple(_writable(option, "choices") for option in value)


def _answer(value: Any, count: int) -> int:
    # bool is an int in Python, but "true" is no index.
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
