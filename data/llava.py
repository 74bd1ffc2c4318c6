"""Conversations in LLaVA's format (arXiv 2304.08485): several turns, ``<image>`` in the first, a folder of pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, Turn
from mm_adapter.data.image_files import find_picture
from mm_adapter.data.json_records import convert_records, read_records
from mm_adapter.data.record import BadRecord, required_text

IMAGE = "<image>"
ROLES = {"human": USER, "gpt": ASSISTANT, USER: USER, ASSISTANT: ASSISTANT}


def read_llava(path: Path, images: Path | None = None) -> list[Conversation]:
    """Return the conversations of a JSON list or JSONL file.

    Args:
        path: records with ``conversations`` (``from``, ``value``), ``image`` where there is one, and ``id``.
        images: folder that ``image`` is relative to; the file's own by default.

    Raises:
        UserError: the file cannot be read, or a record is bad: roles out of turn, ``<image>`` without a picture or a
            picture without ``<image>``, a picture that is missing or outside the folder. Says which.
    """
    folder = path.parent if images is None else images
    records = read_records(path, "the file of conversations")
    return convert_records(path, records, lambda place, record: conversation_from_record(place, record, folder))


def conversation_from_record(place: str, record: Any, images: Path) -> Conversation:
    """Return the conversation in one record; ``place`` is its id where it has none.

    Raises:
        BadRecord: it is none; see ``read_llava``.
    """
    listed = record.get("conversations") if isinstance(record, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise BadRecord("has no list of turns in 'conversations'")
    turns = [_turn(number, turn) for number, turn in enumerate(listed)]
    if len(turns) % 2:
        raise BadRecord(f"ends with turn {len(turns) - 1} of the user, who gets no response")
    named = record.get("image")
    marks = [turn.text.count(IMAGE) for turn in turns]
    if any(marks[1:]) or marks[0] > 1:
        raise BadRecord(f"has {IMAGE} elsewhere than once in the first turn; one picture a conversation can be shown")
    if marks[0] and named is None:
        raise BadRecord(f"has {IMAGE} in its first turn but names no picture in 'image'")
    if named is not None and not marks[0]:
        raise BadRecord(f"names a picture in 'image' but its first turn has no {IMAGE}")
    first = turns[0].text.replace(IMAGE, "").strip()
    if not first:
        raise BadRecord(f"has nothing but {IMAGE} in its first turn")
    own = record.get("id")
    return Conversation(
        id=str(own) if isinstance(own, str | int) else place,
        turns=(Turn(USER, first), *turns[1:]),
        image=None if named is None else find_picture(images, named),
    )


def _turn(number: int, turn: Any) -> Turn:
    role, expected = required_text(turn, "from"), (USER, ASSISTANT)[number % 2]
    if ROLES.get(role) != expected:
        raise BadRecord(f"has turn {number} from {role[:40]!r} where the {expected} is next")
    return Turn(expected, required_text(turn, "value"))
