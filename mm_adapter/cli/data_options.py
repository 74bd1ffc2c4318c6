"""Options that name questions, the same for every subcommand that reads a dataset."""

from mm_adapter.cli.parser import Parser

DATA_HELP = "ScienceQA folder (problems.json), parquet folder, hub id; to train also a file of conversations"


def add_data_options(parser: Parser) -> None:
    """Add ``--data``, ``--skip-bad`` and ``--quiet``."""
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad questions by name; they count as wrong")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
