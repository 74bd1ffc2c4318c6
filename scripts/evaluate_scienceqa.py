"""Evaluate an adapter: the same as ``mm-adapter evaluate``, as a script to start by hand or from a job file.

python scripts/evaluate_scienceqa.py --adapter RUN --data DIR --split test --out DIR
"""

import sys

from mm_adapter.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
