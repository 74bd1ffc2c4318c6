"""How long a user waits before anything is computed: help, import, an answer about a picture from shell to answer.

    python scripts/benchmark_startup.py [--runs N] [--json FILE]

Each is a fresh process; the median of ``--runs`` counts, after one that is not counted. The answer is that of a small
adapter on the default model and tower, trained here first for a few steps; their files are in the cache then. ``import
torch`` alone stands beside: nothing that computes starts sooner. Installed trackers count too: timm imports wandb where
it finds it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bars import bar, write_bars

from mm_adapter.data.demo import write_demo

COMMAND = [sys.executable, "-m", "mm_adapter"]
IMPORT = "from mm_adapter import MultimodalLlama"
BARS = {"import": 1.8, "answer about a picture": 3.5, "help": 0.3}


def seconds(command: list[str], runs: int) -> float:
    """Return the median wall time of a command."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> int:
    """Train, time, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5, help="runs of each that count")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_demo(folder / "data", size=60)
        where = ["--data", str(folder / "data"), "--out", str(folder / "run"), "--features", str(folder / "features")]
        train = ["train", "--preset", "demo", *where, "--epochs", "0.2", "--warmup-epochs", "0", "--quiet"]
        subprocess.run([*COMMAND, *train], check=True, capture_output=True)
        image = next((folder / "data" / "images" / "test").glob("*/image.png"))
        asked = ["--question", "Which number is shown?", "--choices", "one", "two", "three"]
        answer = ["answer", "--adapter", str(folder / "run"), "--image", str(image), *asked]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "import": [sys.executable, "-c", IMPORT],
            "help": [*COMMAND, "--help"],
            "help of train": [*COMMAND, "train", "--help"],
            "answer about a picture": [*COMMAND, *answer],
        }
        found = {name: seconds(command, options.runs) for name, command in commands.items()}
    for name, measured in found.items():
        limit = f"bar {BARS[name]} s, {'holds' if measured <= BARS[name] else 'missed'}" if name in BARS else ""
        print(f"{name:24}{measured:7.2f} s   {limit}")
    if options.json is not None:
        write_bars(options.json, [bar(f"seconds: {k}", found[k], most, found[k] <= most) for k, most in BARS.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
