"""The ``mm-adapter`` command."""

from mm_adapter.cli.app import main

__all__ = ["main"]
