"""Train an adapter: the same as ``mm-adapter train``, as a script to start by hand or from a job file.

python scripts/train_scienceqa.py --preset smollm2 --data DIR --out RUN
"""

import sys

from mm_adapter.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
