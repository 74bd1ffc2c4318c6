"""The command line as a whole: which subcommands there are, and how one is found, explained and called."""

import io
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cyclopts import App, Argument, ArgumentCollection, CycloptsError, Parameter
from cyclopts.utils import UNSET, is_option_like

from mm_adapter import __version__
from mm_adapter.core.errors import Stopped, UserError

PROGRAM = "mm-adapter"
_HELP = frozenset(("--help", "-h"))
COMMANDS = {
    "demo": "Train and compare adapters on a generated set: the whole method in minutes.",
    "demo-data": "Write the generated set in ScienceQA's official layout.",
    "features": "Compute the image features of a dataset ahead of training.",
    "train": "Train an adapter on questions or conversations.",
    "plan": "Say what a training run will take, before anything is loaded: memory, work, time, what fits.",
    "evaluate": "Answer the questions of a split and report accuracy by class.",
    "score": "Score predictions of any system, with intervals; compare several.",
    "leaderboard": "Rank published results and your runs; `leaderboard add RUN` verifies a run and keeps it.",
    "report": "Write one page of HTML about runs: tables, plots, and every question with its answers.",
    "probe": "Ask a split again with pictures, contexts, options or labels changed: what do answers rest on?",
    "ablate": "Run a grid of trainings that share what they can, and report it as the paper's ablation tables.",
    "answer": "Answer one question, about a picture if one is named.",
    "generate": "Write on a prompt as it comes, or on many from a file or a pipe in batches.",
    "chat": "Talk with a model: every line of a terminal or a pipe is answered.",
    "serve": "Serve a base model and any number of adapters over HTTP: OpenAI's protocol, and questions with options.",
    "inspect": "Say what a model, adapter or feature store is, and if it can be used.",
    "publish": "Write a model card from a run, and publish both on the Hugging Face hub.",
    "convert": "Convert an adapter from or to the original V1 code, PEFT or litgpt.",
    "doctor": "Say what this machine and installation have, what is missing or slow, and how to mend it.",
    "cache": "Say what lies in the cache folder and how large it is, or clear it by kind.",
    "completion": "Print a script that completes commands and options in your shell.",
}
"""Name -> what it does. A command is the function of its name in the module of its name, imported when it is called."""


class _Program(App):
    """The library's app with our help and version: plain text, wrapped to the terminal, without a rendering library."""

    def help_print(self, tokens: str | Iterable[str] | None = None, *, console: Any = None) -> None:
        """Print the help of the command that ``tokens`` name, or of the program."""
        from mm_adapter.cli.help import command_help, program_help

        chain, apps, _ = self.parse_commands(tokens)
        if not chain:
            print(program_help(PROGRAM, COMMANDS))
            return
        options = apps[-1].assemble_argument_collection(default_parameter=_DEFAULTS)
        print(command_help(f"{PROGRAM} {chain[-1]}", COMMANDS[chain[-1]], apps[-1].default_command, options))

    def version_print(self, console: Any = None) -> None:
        """Print name and version."""
        print(f"{PROGRAM} {__version__}")


# A flag has no opposite, and of an option that is given twice the last one counts (of several values: words.py).
_DEFAULTS = Parameter(negative=(), negative_iterable=(), allow_repeating=True)


def build_app() -> App:
    """Return the app of all subcommands; their modules are imported when they are called."""
    app = _Program(
        name=PROGRAM,
        default_parameter=_DEFAULTS,
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for name, text in COMMANDS.items():
        attribute = name.replace("-", "_")
        app.command(f"mm_adapter.cli.{attribute}:{attribute}", name=name, help=text, version_flags=())
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, also after a SIGTERM that left the state of a run; 2 for bad input; 130 after Ctrl-C.
    """
    _show_anything()
    try:
        run(sys.argv[1:] if arguments is None else list(arguments))
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        print(f"mm-adapter: {error}" if rank == "0" else f"mm-adapter, rank {rank}: {error}", file=sys.stderr)
        return 2
    except UnicodeDecodeError as error:
        print(f"mm-adapter: what was read is not UTF-8 text (byte {error.start}). Save it as UTF-8.", file=sys.stderr)
        return 2
    except Stopped:
        # The machine was wanted back, and everything is kept: what was asked for was done.
        return 0
    except KeyboardInterrupt:
        print("mm-adapter: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"mm-adapter: {error.filename or 'file system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def run(arguments: Sequence[str]) -> None:
    """Call the subcommand that the arguments name.

    Raises:
        UserError: they are not understood, or what the subcommand raises.
    """
    app = build_app()
    if not arguments:
        raise UserError(f"a COMMAND is missing: {', '.join(COMMANDS)}. See {PROGRAM} --help.")
    words = [_with_home(word) for word in arguments]
    given = words[: words.index("--")] if "--" in words else words
    if words[0] in (*COMMANDS, *_HELP) and not _HELP.isdisjoint(given):
        # Before the library does it: that would load what it paints with.
        app.help_print([word for word in words[:1] if word not in _HELP])
        return
    if words[0] in COMMANDS:
        try:
            words[1:] = arranged(words[1:], app[words[0]].assemble_argument_collection(default_parameter=_DEFAULTS))
        except UserError as error:
            raise UserError(f"{error} See {PROGRAM} {words[0]} --help.") from None
    try:
        app(words)
    except CycloptsError as error:
        from mm_adapter.cli.errors import readable

        raise UserError(readable(error, app, words, list(COMMANDS))) from None


def _show_anything() -> None:
    """Let a terminal that lacks a character show its number in place of it; nothing is lost for that."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def _with_home(word: str) -> str:
    """Return ``--data=~/set`` with the home folder in it, as shells do for ``--data ~/set``."""
    option, equals, value = word.partition("=")
    home = equals and option.startswith("--") and (value == "~" or value.startswith("~/"))
    return f"{option}={os.path.expanduser(value)}" if home else word


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
