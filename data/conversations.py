"""Conversations and open questions of a table, in Alpaca's, LLaVA's and every usual layout, with their splits.

A record of Alpaca's has ``instruction``, ``input`` (may be missing) and ``output``. One of LLaVA's has
``conversations`` and perhaps an ``image``. Every other table has a question and an answer to write, or several answers
of annotators.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.choice_rows import parsed_list
from mm_adapter.data.columns import SYSTEM, Columns, find_columns, parse_choice
from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, Turn
from mm_adapter.data.message_turns import read_turns, without_marks
from mm_adapter.data.pictures import PictureSource
from mm_adapter.data.question import TableOptions, default_split, divide
from mm_adapter.data.record import BadRecord, kind_of, required_text, text_of
from mm_adapter.data.table_files import ALL, Table, is_official, missing_split, open_table, our_split


@dataclass(frozen=True)
class ConversationData:
    """The conversations of a table.

    Attributes:
        splits: split -> usable conversations, in the table's order.
        bad: place -> why that record is not usable; empty unless bad ones were to be skipped.
        source: the file, folder or hub id, for messages.
        summary: what the table was understood as.
        is_open: each is one question with an answer to be written, not a conversation of any length.
    """

    splits: Mapping[str, tuple[Conversation, ...]]
    bad: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    summary: str = ""
    is_open: bool = False

    @property
    def default_split(self) -> str:
        """The split to evaluate where none is named: ``test``, or all of a table that has no splits."""
        return default_split(self.splits)

    def split(self, name: str) -> list[Conversation]:
        """Return the conversations of a split.

        Raises:
            UserError: there is no such split, or nothing usable is in it.
        """
        if name not in self.splits:
            raise missing_split(self.source, name, list(self.splits))
        if not self.splits[name]:
            raise UserError(f"{self.source}: split {name!r} is empty.")
        return list(self.splits[name])


def is_conversations(source: str, options: TableOptions | None = None) -> bool:
    """Tell whether ``source`` is a table without options to choose from; a hub dataset is fetched to tell.

    Raises:
        UserError: nothing can be read there, or its columns are not understood.
    """
    if is_official(source):
        return False
    table = open_table(source)
    return not find_columns(source, table.columns, parse_choice((options or TableOptions()).columns)).has_options


def read_conversations(source: str, images: Path | None = None, split: str | None = None) -> list[Conversation]:
    """Return the conversations of one split of ``source``; of all of a file, or ``train``, where none is named.

    Args:
        source: what ``open_table`` takes.
        images: folder of the pictures; the table's own by default.
        split: ``train``, ``val``, ``test``, or ``all`` of a table without splits.

    Raises:
        UserError: nothing usable is there; see ``open_conversations``.
    """
    data = open_conversations(source, TableOptions(images))
    return data.split(split or next(name for name in (ALL, *data.splits) if name in data.splits))


def open_conversations(source: str, options: TableOptions | None = None, skip_bad: bool = False) -> ConversationData:
    """Return the conversations of a table, by split.

    Args:
        source: what ``open_table`` takes.
        options: how the table is taken.
        skip_bad: leave records out that cannot be used, and record why, instead of refusing the table.

    Raises:
        UserError: nothing usable is there; or, without ``skip_bad``, a record is bad: roles out of turn, ``<image>``
            without a picture, a picture that is missing or outside the folder. Says which.
    """
    options = options or TableOptions()
    table = open_table(source)
    columns = find_columns(source, table.columns, parse_choice(options.columns))
    if columns.has_options:
        raise UserError(f"{source}: its rows have options to choose from; train on questions (--task questions).")
    if options.answers is not None:
        raise UserError("--answers is of questions with options; leave it out with open answers and conversations.")
    pictures = PictureSource(options.images or table.folder, options.allow_urls, bad=options.bad_pictures)
    rows, bad = _read(table, columns, pictures)
    if bad and not skip_bad:
        place, reason = next(iter(bad.items()))
        more = f" ({len(bad) - 1} more are bad.)" if len(bad) > 1 else ""
        raise UserError(f"{source}, {place}: {reason}. Mend it, or leave it out with --skip-bad.{more}")
    divided = divide({name: tuple(items) for name, items in rows.items()}, options.val_share, bad)
    whole = rows.get("train", rows.get(ALL, {}))
    splits = {
        name: tuple(item for key in keys if (item := rows.get(name, whole)[key]) is not None)
        for name, keys in divided.items()
    }
    summary = _summary([item for items in rows.values() for item in items.values() if item is not None], columns)
    return ConversationData(splits, bad, source, summary, columns.turns is None)


def _read(
    table: Table, columns: Columns, pictures: PictureSource
) -> tuple[dict[str, dict[str, Conversation | None]], dict[str, str]]:
    """Return split -> id -> conversation, None for a record that is bad, by its place; and place -> what is bad."""
    splits: dict[str, dict[str, Conversation | None]] = {}
    bad: dict[str, str] = {}
    lone = len(table.splits) == 1
    for split, rows in table.splits.items():
        for number, (place, record) in enumerate(rows):
            named = columns.value(record, "split") if isinstance(record, Mapping) else None
            known = splits.setdefault(our_split(str(named)) if named else split, {})
            try:
                if not isinstance(record, Mapping):
                    raise BadRecord(f"is {kind_of(record)} where an object belongs")
                found = conversation_from_record(str(number), record, columns, pictures)
            except BadRecord as reason:
                where = place if lone and split == ALL else f"split {split}, {place}"
                bad[where] = str(reason)
                known[where] = None
                continue
            # Ids come again in sets that were merged; what is kept for a conversation is kept by its id.
            name, again = found.id, 1
            while name in known:
                again += 1
                name = f"{found.id} ({again})"
            known[name] = replace(found, id=name)
    return splits, bad


def conversation_from_record(
    place: str, record: Mapping[str, Any], columns: Columns, pictures: PictureSource
) -> Conversation:
    """Return the conversation in one record; ``place`` is its id where it has none.

    Raises:
        BadRecord: it is none.
    """
    own = columns.value(record, "id")
    name = str(own) if isinstance(own, str | int) else place
    image = pictures.find(columns.value(record, "image"), columns.name("image"))
    if columns.turns is not None:
        listed, shown = read_turns(record.get(columns.turns), columns.turns)
        if shown is not None and image is not None:
            raise BadRecord(f"has a picture in '{columns.name('image')}' and one among its turns; one can be shown")
        image = image or pictures.find(shown, columns.turns)
        turns = without_marks(listed, image is not None, columns.name("image"))
        return Conversation(name, _with_system(turns, record.get(columns.roles.get(SYSTEM, ""))), image)
    question, context = required_text(record, columns.name("question")), record.get(columns.roles.get("context", ""))
    column = columns.name("answer")
    answers = _answers(record.get(column), column)
    exchange = (
        Turn(USER, question if column == "output" else question.strip(), text_of(context, columns.name("context"))),
        Turn(ASSISTANT, Counter(answers).most_common(1)[0][0]),
    )
    return Conversation(name, exchange, image, answers if len(answers) > 1 else ())


def _with_system(turns: tuple[Turn, ...], value: Any) -> tuple[Turn, ...]:
    """Return the turns with what the column ``system`` says before them."""
    system = text_of(value, SYSTEM)
    if not system.strip():
        return turns
    if turns[0].system:
        raise BadRecord(f"has a turn of the system and a text in {SYSTEM!r}; one of them can be put")
    return (replace(turns[0], system=system), *turns[1:])


def _answers(value: Any, column: str) -> tuple[str, ...]:
    """Return the answers to an open question: one, or those of several annotators."""
    if isinstance(value, str) and value.lstrip().startswith("[") and column.lower().endswith("answers"):
        value = parsed_list(value, column)
    if isinstance(value, list | tuple):
        if not value:
            raise BadRecord(f"has no answer in '{column}'")
        items = [item.get("answer") if isinstance(item, Mapping) else item for item in value]
        return tuple(_answer(item, column) for item in items)
    return (_answer(value, column),)


def _answer(value: Any, column: str) -> str:
    if column != "output" and isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return str(value)
    # A few responses of Alpaca's are empty.
    return required_text({column: value}, column, blank=column == "output")


def _summary(items: Sequence[Conversation], columns: Columns) -> str:
    pictured = sum(item.image is not None for item in items)
    kind = "conversations" if columns.turns is not None else "questions"
    parts = [f"{len(items):,} {kind}", f"{pictured:,} with a picture"]
    if columns.turns is None:
        several = sum(len(item.references) > 1 for item in items)
        parts.append("open answers" + (f", {several:,} with several" if several else ""))
    asked = ("id", "question", "image", "answer", "context", "split", SYSTEM)
    unused = [column for role, column in columns.roles.items() if role not in asked]
    passed = ", ".join(filter(None, (*columns.passed_over, *unused)))
    return ", ".join(parts) + (f"; passed over: {passed}" if passed else "")
