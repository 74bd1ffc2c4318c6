"""Turns of a conversation as records have them: with a mark for the picture, or with a list of parts as content."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mm_adapter.data.conversation import ASSISTANT, USER, Turn
from mm_adapter.data.record import BadRecord, kind_of, required_text

IMAGE = "<image>"
_SYSTEM_ROLES = ("system", "developer")
_ROLES = {"human": USER, "gpt": ASSISTANT, USER: USER, ASSISTANT: ASSISTANT}
_TEXT_PARTS = ("text", "input_text", "output_text")
_PICTURE_PARTS = ("image", "image_url", "input_image")


def read_turns(listed: Any, column: str) -> tuple[list[Turn], Any]:
    """Return the turns of a conversation, user and assistant by turns, and the picture that stands among them.

    What the system says before them is kept with the first.

    Content may be a list of parts as chat templates take it: ``{"type": "text", "text": ...}`` and
    ``{"type": "image"}``, which may hold the picture. Parts are joined by line ends; a picture becomes ``<image>``.

    Args:
        listed: the turns as a record has them.
        column: that they stand in, for messages.

    Returns:
        The picture as ``PictureSource.find`` takes it; None where parts hold none.

    Raises:
        BadRecord: there are no turns, roles are out of turn, or a part is neither text nor a picture.
    """
    if not isinstance(listed, list) or not listed:
        raise BadRecord(f"has no list of turns in '{column}'")
    shown: list[Any] = []
    begins = _role(listed[0]) in _SYSTEM_ROLES
    system = _said(0, _renamed(listed[0]), shown) if begins else ""
    if shown or IMAGE in system:
        raise BadRecord("has a picture in the turn of the system; show it in the first turn of the user")
    turns = [_turn(number, turn, shown, begins) for number, turn in enumerate(listed[begins:], start=begins)]
    if len(turns) % 2:
        raise BadRecord(f"ends with turn {len(listed) - 1} of the user, who gets no response")
    if not turns:
        raise BadRecord("has nothing but a turn of the system")
    turns[0] = replace(turns[0], system=system)
    if len(shown) > 1:
        raise BadRecord(f"has {len(shown)} pictures among its turns; one picture a conversation can be shown")
    return turns, shown[0] if shown else None


def without_marks(turns: list[Turn], has_picture: bool, column: str) -> tuple[Turn, ...]:
    """Return the turns without the mark that stands for their picture.

    Args:
        turns: as ``read_turns`` gives them.
        has_picture: the record has a picture.
        column: that names pictures, for messages.

    Raises:
        BadRecord: the mark stands elsewhere than once in the first turn, or without a picture, or alone.
    """
    marks = [turn.text.count(IMAGE) for turn in turns]
    if any(marks[1:]) or marks[0] > 1:
        raise BadRecord(f"has {IMAGE} elsewhere than once in the first turn; one picture a conversation can be shown")
    if marks[0] and not has_picture:
        raise BadRecord(f"has {IMAGE} in its first turn but names no picture in '{column}'")
    first = turns[0].text.replace(IMAGE, "").strip()
    if not first:
        raise BadRecord(f"has nothing but {IMAGE} in its first turn")
    return (replace(turns[0], text=first), *turns[1:])


def _renamed(turn: Any) -> Any:
    if isinstance(turn, Mapping) and "from" not in turn and "role" in turn:
        return {"from": turn["role"], "value": turn.get("content")}
    return turn


def _role(turn: Any) -> str:
    return required_text(_renamed(turn), "from")


def _turn(number: int, turn: Any, shown: list[Any], begins: bool) -> Turn:
    """Return a turn; ``begins`` says whether one of the system stands first."""
    role, expected = _role(turn), (USER, ASSISTANT)[(number - begins) % 2]
    if role in _SYSTEM_ROLES:
        raise BadRecord(
            f"has turn {number} from {role!r}, which has a place before the first turn of the user alone; take the "
            "turn out, or write what it says into another"
        )
    if _ROLES.get(role) != expected:
        remedy = "; a conversation begins with the user: take what stands before out" if number == begins else ""
        raise BadRecord(f"has turn {number} from {role[:40]!r} where the {expected} is next{remedy}")
    return Turn(expected, _said(number, _renamed(turn), shown))


def _said(number: int, turn: Any, shown: list[Any]) -> str:
    value = turn.get("value")
    if isinstance(value, list):
        turn = {**turn, "value": _joined(number, value, shown)}
    return required_text(turn, "value")


def _joined(number: int, parts: list[Any], shown: list[Any]) -> str:
    """Return the parts of a message as text, and put the pictures that they hold into ``shown``."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type") if isinstance(part, Mapping) else kind_of(part)
        if kind in _TEXT_PARTS:
            texts.append(required_text(part, "text"))
        elif kind in _PICTURE_PARTS:
            texts.append(IMAGE)
            held = _held(part)
            shown += [] if held is None else [held]
        else:
            raise BadRecord(f"has a part {str(kind)[:40]!r} in turn {number}; parts are of type 'text' or 'image'")
    return "\n".join(texts)


def _held(part: Mapping[str, Any]) -> Any:
    """Return the picture in a part: a name, bytes, base64 or a URL; None where the record has it elsewhere."""
    for name in ("image", "image_url", "url", "path", "base64", "bytes"):
        held = part.get(name)
        if isinstance(held, Mapping) and "url" in held:
            held = held["url"]
        if held is not None and held != "":
            return held
    return None
