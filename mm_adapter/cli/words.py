"""The words of a command line, put so that the library reads them as they are meant.

A sentence that begins with a dash is a value or an argument; of an option that is given twice the last one counts.
"""

from collections.abc import Sequence

from cyclopts import Argument, ArgumentCollection
from cyclopts.utils import UNSET, is_option_like

from mm_adapter.core.errors import UserError

END = "--"
"""Behind it everything is an argument."""


def arranged(words: Sequence[str], options: ArgumentCollection) -> list[str]:
    """Return the words behind a subcommand with every value joined to its option (``--question=- or +``).

    Of an option of several values the last occurrence alone is left, and arguments that begin with a dash stand behind
    ``--``. What is not known stays where it is, for the library to refuse.

    Args:
        words: as they were given.
        options: of the subcommand.

    Raises:
        UserError: a flag has a value.
    """
    end = words.index(END) if END in words else len(words)
    before, arguments = list(words[:end]), list(words[end + 1 :])
    read: list[tuple[Argument | None, list[str]]] = []
    while before:
        word = before.pop(0)
        option, is_flag = _find(word, options)
        name, equals, value = word.partition("=")
        if option is None:
            read.append((None, [word]))
        elif is_flag:
            if equals:
                raise UserError(f"{name} takes no value; {value!r} was given.")
            read.append((option, [word]))
        else:
            values = [value] if equals else []
            values += _values(before, option, len(values))
            if option.parameter.consume_multiple:
                read = [(other, parts) for other, parts in read if other is not option]
            read.append((option, [f"{name}={text}" for text in values] or [word]))
    loose = [part for option, parts in read for part in parts if option is None and not _is_option(part)]
    if end == len(words) and not any(word.startswith("-") for word in loose):
        return [part for _, parts in read for part in parts]
    # All arguments go there, so that their order stays.
    kept = [part for option, parts in read for part in parts if option is not None or _is_option(part)]
    return [*kept, END, *loose, *arguments]


def _find(word: str, options: ArgumentCollection) -> tuple[Argument | None, bool]:
    """Return the option that a word names, if one, and whether it is a flag."""
    if not _is_option(word):
        return None, False
    try:
        option, _, implied = options.match(word.split("=")[0])
    except ValueError:
        return None, False
    return option, implied is not UNSET


def _values(words: list[str], option: Argument, had: int) -> list[str]:
    """Take the values of an option from the front of the words that follow it; it ``had`` some behind ``=``."""
    several = option.parameter.consume_multiple
    most = len(words) + had if several is True else several[1] if isinstance(several, tuple) else 1
    most = len(words) + had if most is None else most
    found: list[str] = []
    while words and had + len(found) < most and (option.parameter.allow_leading_hyphen or not _is_option(words[0])):
        found.append(words.pop(0))
    return found


def _is_option(word: str) -> bool:
    """Return whether a word is to be an option: it begins with a dash, and is no number, dash or sentence."""
    name = word.split("=")[0]
    return word != "-" and is_option_like(word) and not any(letter.isspace() for letter in name)
