"""What is wrong with a command line, in one line: which option, which value, what is allowed, the nearest name."""

from collections.abc import Sequence
from typing import get_args

from cyclopts import (
    App,
    ArgumentCollection,
    CoercionError,
    ConsumeMultipleError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from mm_adapter.cli.help import choices_of, limits_of
from mm_adapter.core.errors import suggestion

_RATES = ("lr", "learning_rate", "rate")


def readable(error: CycloptsError, app: App, words: Sequence[str], commands: Sequence[str]) -> str:
    """Return a sentence or two about ``error``, and where help is."""
    program = app.name[0]
    chain, apps, _ = app.parse_commands(list(words))
    if isinstance(error, UnknownCommandError) or not chain:
        word = words[0]
        if word.startswith("-"):
            return f"{_ended(f'unknown option {word}', word, ['--help', '--version'])} See {program} --help."
        return f"{_ended(f'there is no command {word!r}', word, commands)} See {program} --help."
    options = apps[-1].assemble_argument_collection(default_parameter=app.default_parameter)
    return f"{_sentence(error, options)} See {program} {' '.join(chain)} --help."


def _sentence(error: CycloptsError, options: ArgumentCollection) -> str:
    known = [name for option in options for name in option.names if name.startswith("-")]
    # Before all else: a required option that is missing may be the one that was mistyped.
    words = list(error.unused_tokens or ())
    if isinstance(error, UnknownOptionError):
        words.insert(0, error.token.keyword or error.token.value)
    unknown = next((word for word in words if _is_unknown(word, known)), None)
    if unknown is not None:
        return _unknown_option(unknown.split("=")[0], known)
    name = _name(error)
    if isinstance(error, ConsumeMultipleError):
        return f"{name} takes at least {error.min_required} value; it has {error.actual_count}."
    if isinstance(error, MissingArgumentError):
        return f"{name} has no value." if error.keyword else f"{name} is required."
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected argument {(error.unused_tokens or [''])[0]!r}."
    if isinstance(error, ValidationError) and error.argument is not None and limits_of(error.argument):
        value = error.argument.tokens[-1].value
        return f"{name} is {value}; it must be {limits_of(error.argument)}."
    if isinstance(error, CoercionError):
        return _wrong_value(error, name)
    return str(error)


def _wrong_value(error: CoercionError, name: str) -> str:
    value = "" if error.token is None else error.token.value
    choices = choices_of(error.target_type)
    if choices:
        return f"{_ended(f'{name} {value!r} is not known', value, choices)} There are: {', '.join(choices)}."
    plain = _plain(error.target_type)
    kind = "a whole number" if plain is int else "a number" if plain is float else None
    return str(error) if kind is None else f"{name} is {value!r}; it must be {kind}."


def _plain(kind: object) -> object:
    """Return a type without the None that it may be."""
    named = [part for part in get_args(kind) if part is not type(None)]
    return named[0] if len(named) == 1 else kind


def _is_unknown(word: str, known: Sequence[str]) -> bool:
    return word.startswith("-") and word not in ("-", "--") and " " not in word and word.split("=")[0] not in known


def _unknown_option(name: str, known: Sequence[str]) -> str:
    # Imported here: only who mistypes needs it.
    from mm_adapter.training.checked import RENAMED, renamed_hint

    key = name.removeprefix("--").replace("-", "_")
    if key in _RATES and "--base-lr" in known:
        return f"there is no option {name}; --base-lr is the learning rate for a batch of 256."
    new = f"--{RENAMED.get(key, '').replace('_', '-')}"
    if new in known:
        hint = renamed_hint(key).replace(RENAMED[key], new, 1)
        return f"there is no option {name} any more; {hint}."
    return _ended(f"unknown option {name}", name, known)


def _ended(text: str, word: str, known: Sequence[str]) -> str:
    """Return a sentence with the nearest known name at its end, where there is one near ``word``."""
    return f"{text}{suggestion(word, list(known)) or '.'}"


def _name(error: CycloptsError) -> str:
    if error.argument is None:
        return ""
    words = [token.keyword for token in error.argument.tokens if token.keyword]
    return words[-1] if words else error.argument.name
