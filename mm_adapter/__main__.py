"""``python -m mm_adapter`` is the ``mm-adapter`` command."""

import sys

from mm_adapter.cli import main

if __name__ == "__main__":
    sys.exit(main())
