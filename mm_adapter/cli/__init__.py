"""The ``mm-adapter`` command: a file a subcommand, with its options, its call and its printing."""

from mm_adapter.cli.app import main

__all__ = ["main"]
