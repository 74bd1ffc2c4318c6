"""The ``mm-adapter`` command: parse, call, print."""

import os
import sys
from collections.abc import Sequence

from mm_adapter.cli.ablate import add_ablate
from mm_adapter.cli.answer import add_answer
from mm_adapter.cli.convert import add_convert
from mm_adapter.cli.demo import add_demo, add_demo_data
from mm_adapter.cli.evaluate import add_evaluate
from mm_adapter.cli.generate import add_chat, add_generate
from mm_adapter.cli.inspect import add_inspect
from mm_adapter.cli.leaderboard import add_leaderboard
from mm_adapter.cli.parser import Parser, parse
from mm_adapter.cli.plan import add_plan
from mm_adapter.cli.probe import add_probe
from mm_adapter.cli.report import add_report
from mm_adapter.cli.score import add_score
from mm_adapter.cli.train import add_features, add_train
from mm_adapter.core.errors import Stopped, UserError


def build_parser() -> Parser:
    """Return the parser of all subcommands; each sets ``run``, a function of the parsed options."""
    parser = Parser(
        prog="mm-adapter", description="Multimodal question answering with a frozen LLaMA.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for add in (
        add_demo,
        add_demo_data,
        add_features,
        add_train,
        add_plan,
        add_evaluate,
        add_score,
        add_leaderboard,
        add_report,
        add_probe,
        add_ablate,
        add_answer,
        add_generate,
        add_chat,
        add_inspect,
        add_convert,
    ):
        add(commands)
    parser.commands = dict(commands.choices)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, also after a SIGTERM that left the state of a run; 2 for bad input; 130 after Ctrl-C.
    """
    try:
        parser = build_parser()
        options = parse(parser, sys.argv[1:] if arguments is None else list(arguments))
        options.run(options)
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
