"""The command line as a whole: which subcommands there are, and how one is found, explained and called."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter

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
    "inspect": "Say what a model, adapter or feature store is, and if it can be used.",
    "convert": "Convert an adapter from or to the original V1 code, PEFT or litgpt.",
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
    try:
        run(sys.argv[1:] if arguments is None else list(arguments))
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        print(f"mm-adapter: {error}" if rank == "0" else f"mm-adapter, rank {rank}: {error}", file=sys.stderr)
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
    words = list(arguments)
    given = words[: words.index("--")] if "--" in words else words
    if words[0] in (*COMMANDS, *_HELP) and not _HELP.isdisjoint(given):
        # Before the library does it: that would load what it paints with.
        app.help_print([word for word in words[:1] if word not in _HELP])
        return
    if words[0] in COMMANDS:
        from mm_adapter.cli.words import arranged

        try:
            words[1:] = arranged(words[1:], app[words[0]].assemble_argument_collection(default_parameter=_DEFAULTS))
        except UserError as error:
            raise UserError(f"{error} See {PROGRAM} {words[0]} --help.") from None
    try:
        app(words)
    except CycloptsError as error:
        from mm_adapter.cli.errors import readable

        raise UserError(readable(error, app, words, list(COMMANDS))) from None
