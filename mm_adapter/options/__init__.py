"""Options of every subcommand, and what each one calls: a file for each, imported when the command line is parsed."""

from mm_adapter.options.ablate import add_ablate
from mm_adapter.options.answer import add_answer
from mm_adapter.options.convert import add_convert
from mm_adapter.options.demo import add_demo, add_demo_data
from mm_adapter.options.evaluate import add_evaluate
from mm_adapter.options.generate import add_chat, add_generate
from mm_adapter.options.inspect import add_inspect
from mm_adapter.options.leaderboard import add_leaderboard
from mm_adapter.options.parser import Parser, parse
from mm_adapter.options.plan import add_plan
from mm_adapter.options.probe import add_probe
from mm_adapter.options.report import add_report
from mm_adapter.options.score import add_score
from mm_adapter.options.train import add_features, add_train

__all__ = ["build_parser", "parse"]


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
