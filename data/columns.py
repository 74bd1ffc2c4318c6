"""What the columns of a table hold, told from their usual names; a column that is not understood is an error."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mm_adapter.core.errors import UserError, suggestion

# Names without case, spaces and marks, the most telling first.
ROLES: Mapping[str, tuple[str, ...]] = {
    "id": ("pid", "id", "qid", "questionid", "sampleid", "uid", "uuid", "index", "idx"),
    "question": ("question", "instruction", "prompt", "query", "problem", "questiontext"),
    "image": (
        *("image", "imagepath", "picture", "filename", "img", "imgpath", "imagefile", "imagefilename", "imagename"),
        *("picturepath", "picturefile", "imageurl", "photo", "pic", "images", "imagebytes", "imagebase64"),
    ),
    "options": ("choices", "options", "candidates", "answerchoices", "answeroptions", "optionlist", "choicelist"),
    "answer": (
        *("answer", "answers", "label", "target", "output", "response", "correct", "correctanswer", "correctchoice"),
        *("correctoption", "correctindex", "answerkey", "answerindex", "answeridx", "answerletter", "gold"),
        *("goldanswer", "groundtruth", "gt", "multiplechoiceanswer"),
    ),
    "context": ("context", "hint", "input", "passage", "background"),
    "solution": ("solution", "explanation", "rationale"),
    "lecture": ("lecture",),
    "subject": ("subject",),
    "topic": ("topic",),
    "category": ("category",),
    "skill": ("skill",),
    "grade": ("grade",),
    "split": ("split", "fold", "partition"),
}
# What datasets say about their rows that neither asks nor answers anything.
_ABOUT_ROWS = frozenset(
    (
        *("", "source", "url", "link", "license", "licence", "language", "lang", "author", "created", "createdat"),
        *("task", "type", "questiontype", "answertype", "dataset", "datasetname", "model", "md5", "sha256"),
        *("hash", "width", "height", "imagewidth", "imageheight"),
        *("difficulty", "level", "category2", "l2category", "indexlevel0", "unnamed0"),
    )
)
# Beside a picture these say nothing new; alone they are how a table names its picture.
_ABOUT_PICTURES = frozenset(("imageid", "imgid", "cocourl", "flickrurl"))
_OPTION = re.compile(r"(?:option|choice|answer|opt)?([a-z]|[0-9]{1,2})")
MAX_OPTIONS = 26
SYSTEM = "system"
"""Column, and its role, with what the system says before the turns of a conversation."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what.

    Attributes:
        roles: role (a key of ``ROLES``, or ``SYSTEM``) -> column.
        options: columns with one option each, in order; empty where options stand in one column or there are none.
        passed_over: columns that are known to say nothing about what is asked.
        turns: the column with the turns of conversations, or None.
    """

    roles: Mapping[str, str]
    options: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    turns: str | None = None

    @property
    def has_options(self) -> bool:
        """Whether rows are multiple-choice questions."""
        return "options" in self.roles or bool(self.options)

    def value(self, record: Mapping[str, Any], role: str) -> Any:
        """Return what a record has in a role; None where it has no such column, or an empty cell."""
        column = self.roles.get(role)
        found = None if column is None else record.get(column)
        # What pandas writes into an empty cell is not equal to itself.
        return None if (isinstance(found, str) and not found.strip()) or found != found else found

    def name(self, role: str) -> str:
        """Return the name of the column in a role, for messages."""
        return self.roles.get(role, role)


@dataclass(frozen=True)
class ColumnChoice:
    """What a user says of columns.

    Attributes:
        roles: role -> column that holds it.
        ignored: columns to pass over.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def parse_choice(words: Sequence[str]) -> ColumnChoice:
    """Return the choice in words such as ``image=photo`` and ``ignore=notes``.

    Raises:
        UserError: a word is no such pair, or names an unknown role.
    """
    roles: dict[str, str] = {}
    ignored: list[str] = []
    for word in words:
        role, equals, column = word.partition("=")
        if not equals or not column:
            raise UserError(f"--columns {word!r}: write ROLE=COLUMN, such as image=photo, or ignore=COLUMN.")
        if role == "ignore":
            ignored.append(column)
        elif role not in ROLES:
            near = suggestion(role, list(ROLES)).removesuffix("?")
            raise UserError(f"--columns {word!r}: there is no role {role!r}{near}. Roles: {', '.join(ROLES)}, ignore.")
        elif role in roles:
            raise UserError(f"--columns names two columns for {role}: {roles[role]!r} and {column!r}.")
        else:
            roles[role] = column
    return ColumnChoice(roles, tuple(ignored))


def find_columns(source: str, names: Sequence[str], choice: ColumnChoice) -> Columns:
    """Return what the columns of a table hold.

    Args:
        source: of the table, for messages.
        names: of all columns.
        choice: what the user says of them; it wins over usual names.

    Raises:
        UserError: a column is not understood, two hold the same, a named one is not there, or nothing is asked or
            answered.
    """
    for column in (*choice.roles.values(), *choice.ignored):
        if column not in names:
            raise UserError(
                f"{source}: --columns names a column {column!r}, which is not there{suggestion(column, list(names))} "
                f"Columns: {', '.join(names)}."
            )
    left = [name for name in names if name not in choice.ignored and name not in choice.roles.values()]
    turns = next((name for name in left if name in ("conversations", "messages")), None)
    if turns is not None:
        for chosen, column in choice.roles.items():
            if chosen not in ("image", "id", "split"):
                raise UserError(f"{source}: --columns {chosen}={column} says nothing beside {turns!r}.")
        images = [name for name in left if _plain(name) in ROLES["image"]]
        if len(images) > 1 and "image" not in choice.roles:
            raise _two_columns(source, "image", *images[:2])
        image = choice.roles.get("image") or next(iter(images), None)
        roles = {"image": image} if image else {}
        for kind in ("split", "id"):
            found = choice.roles.get(kind) or next((name for name in left if _plain(name) in ROLES[kind]), None)
            roles |= {kind: found} if found else {}
        # What the system says before the turns, as ShareGPT's layout has it.
        roles |= {SYSTEM: SYSTEM} if SYSTEM in left else {}
        others = tuple(name for name in left if name != turns and name not in roles.values())
        return Columns(roles, passed_over=others, turns=turns)
    roles = dict(choice.roles)
    options = () if "options" in roles else _option_columns(left)
    left = [name for name in left if name not in options]
    passed = list(choice.ignored)
    unknown: list[str] = []
    for name in left:
        role = next((role for role, usual in ROLES.items() if _plain(name) in usual), None)
        if role is None:
            (passed if _plain(name) in _ABOUT_ROWS else unknown).append(name)
        elif role not in roles:
            roles[role] = name
        elif role == "id":
            better = min((roles[role], name), key=lambda column: ROLES["id"].index(_plain(column)))
            passed.append(name if better == roles[role] else roles[role])
            roles[role] = better
        elif role in choice.roles:
            passed.append(name)
        else:
            raise _two_columns(source, role, roles[role], name)
    about = _ABOUT_PICTURES if "image" in roles else frozenset[str]()
    # Alpaca's records repeat themselves whole in "text"; elsewhere it is a passage that is asked about.
    about |= {"text"} if {"instruction", "output"} <= set(names) else frozenset()
    passed += [name for name in unknown if _plain(name) in about]
    unknown = [name for name in unknown if _plain(name) not in about]
    if options and "options" in roles:
        raise UserError(
            f"{source}: options stand in {roles['options']!r} and in {', '.join(options)}. Pass one over with "
            f"--columns ignore={roles['options']}."
        )
    _refuse_gaps(source, names, roles, unknown, bool(options))
    return Columns(roles, options, tuple(passed))


def _two_columns(source: str, role: str, first: str, second: str) -> UserError:
    return UserError(
        f"{source}: columns {first!r} and {second!r} could both be the {role}. Say which with --columns {role}={first}."
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _option_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return columns that hold one option each: A, B, C; option_a, option_b; choice1, choice2."""
    families: dict[str, dict[str, str]] = {}
    for name in names:
        found = _OPTION.fullmatch(_plain(name))
        if found is None or (_plain(name).isdigit()):
            continue
        lone = _plain(name) == found[1]
        if lone and name.strip() != name.strip().upper():
            continue  # a column called "a" is none of these by custom
        families.setdefault(_plain(name).removesuffix(found[1]), {})[found[1]] = name
    for marks in families.values():
        for first in ("a", "1", "0"):
            order = [chr(ord("a") + i) if first == "a" else str(int(first) + i) for i in range(MAX_OPTIONS)]
            count = next((index for index, mark in enumerate(order) if mark not in marks), MAX_OPTIONS)
            if count >= 2:
                return tuple(marks[mark] for mark in order[:count])
    return ()


def _refuse_gaps(
    source: str, names: Sequence[str], roles: Mapping[str, str], unknown: Sequence[str], has_options: bool
) -> None:
    usual = {"question": "question, instruction or prompt", "answer": "answer, label or output"}
    for role in ("question", "answer"):
        if role not in roles:
            near = suggestion(role, list(unknown)).removesuffix("?")
            raise UserError(
                f"{source}: no column holds the {role}{near}; usual names are {usual[role]}. Columns: "
                f"{', '.join(names) or 'none'}. Say which one it is with --columns {role}=COLUMN."
            )
    if unknown:
        listed = ", ".join(repr(name) for name in unknown)
        raise UserError(
            f"{source}: it is not known what {listed} {'holds' if len(unknown) == 1 else 'hold'}. Say so with "
            f"--columns ROLE={unknown[0]} (roles: {', '.join(ROLES)}), or pass over with --columns ignore={unknown[0]}."
        )
