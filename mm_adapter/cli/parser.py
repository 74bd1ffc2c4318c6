"""The parser of the command line and of its subcommands, and values that options take."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from mm_adapter.core.errors import UserError, suggestion


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, with the nearest name suggested.

    Attributes:
        commands: the parser of each subcommand by name.
    """

    commands: dict[str, "Parser"]

    def error(self, message: str) -> NoReturn:
        """Raise the message as a ``UserError``."""
        raise UserError(f"{message}. See {self.prog} --help.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        nearest = suggestion(str(value), known)
        raise argparse.ArgumentError(action, f"{value!r} is not known{nearest}; there are: {', '.join(known)}")


def parse(parser: Parser, arguments: list[str]) -> argparse.Namespace:
    """Parse ``arguments``; an unknown option is an error that names the nearest known one."""
    command = next((text for text in arguments if not text.startswith("-")), "")
    subparser = parser.commands.get(command)
    if subparser is not None:
        start = arguments.index(command)
        _refuse_unknown_options(parser, arguments[:start])
        _refuse_unknown_options(subparser, arguments[start + 1 :])
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(f"unexpected argument {unknown[0]!r}. See {options.parser.prog} --help.")
    return options


def _refuse_unknown_options(parser: Parser, arguments: list[str]) -> None:
    # Before argparse looks: it would complain of a required option that is missing, not of the one that was mistyped.
    known = [name for action in parser._actions for name in action.option_strings]
    for text in arguments:
        name = text.split("=")[0]
        if text == "--":
            return
        if name.startswith("--") and " " not in text and name not in known:
            raise UserError(f"unknown option {name}{suggestion(name, known)}. See {parser.prog} --help.")


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, more: str = ""
) -> Parser:
    """Add a subcommand that calls ``run`` with its options; ``more`` follows ``text`` in its own help."""
    parser: Parser = commands.add_parser(name, help=text, description=f"{text} {more}".strip(), allow_abbrev=False)
    parser.set_defaults(run=run, parser=parser)
    return parser


def positive(text: str) -> int:
    """Return a whole number greater than 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number greater than 0")
    return int(text)


def natural(text: str) -> int:
    """Return a whole number from 0 to 2 ** 63, as seeds are."""
    if not text.isdecimal() or len(text) > 19 or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2 ** 63")
    return int(text)
