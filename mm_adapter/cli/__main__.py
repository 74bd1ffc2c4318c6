"""``python -m mm_adapter.cli``: the command, without being installed."""

import sys

from mm_adapter.cli import main

if __name__ == "__main__":
    sys.exit(main())
