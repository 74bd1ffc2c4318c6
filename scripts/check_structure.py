"""The shape of the house in figures: what stands behind an answer, a training, a help text.

    python scripts/check_structure.py [--runs N] [--json FILE]

Modules of the project that are imported are counted in fresh processes: to answer a question about a picture from
Python and from the command line, and to train with pictures. Start-up is the best of ``--runs`` wall times of
``mm-adapter --help`` and ``mm-adapter train --help``. Help, ``score`` and ``leaderboard`` must not import torch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bars import bar, write_bars
from tiny import write_llama, write_questions

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import contextlib, io, json, sys
{code}
found = sorted(name for name in sys.modules if name.partition(".")[0] == "mm_adapter")
lines = sum(sum(1 for _ in open(sys.modules[name].__file__, encoding="utf-8")) for name in found)
print(json.dumps({{"modules": found, "lines": lines, "torch": "torch" in sys.modules}}))
"""
COMMAND = """
from mm_adapter.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    with contextlib.suppress(SystemExit):
        status = main({arguments!r})
        assert not status, status
"""
PYTHON = """
from mm_adapter import MultimodalLlama
model = MultimodalLlama.from_pretrained(adapter={adapter!r})
model.answer("Which number is shown?", image={image!r}, choices=["one", "two", "three"])
"""


def imported(code: str) -> tuple[list[str], int, bool]:
    """Run code in a fresh process; return the project's modules, their lines, and whether torch was imported."""
    command = [sys.executable, "-c", PROGRAM.format(code=code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\nthe program failed:\n{code}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["modules"], found["lines"], found["torch"]


def seconds(arguments: list[str], runs: int) -> float:
    """Return the best wall time of a command over several runs."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mm_adapter", *arguments], capture_output=True, check=True, cwd=ROOT)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> int:
    """Measure, print a table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5, help="runs of each timed command")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    bars = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        llama, data = write_llama(folder / "llama"), write_questions(folder / "data", 75)
        adapter, image = str(folder / "run"), str(next((data / "images" / "test").glob("*/image.png")))
        where = ["--llama", str(llama), "--data", str(data), "--features", str(folder / "features"), "--quiet"]
        sizes = ["--layers", "2", "--prompt-length", "3", "--epochs", "0.1", "--warmup-epochs", "0"]
        train = ["train", *where, *sizes, "--max-length", "700", "--out", adapter]
        asked = ["--question", "Which number is shown?", "--choices", "one", "two", "three"]
        answer = ["answer", "--adapter", adapter, "--image", image, *asked]
        counts = (
            ("train with pictures, command line", COMMAND.format(arguments=train), 68),
            ("answer about a picture, Python", PYTHON.format(adapter=adapter, image=image), 52),
            ("answer about a picture, command line", COMMAND.format(arguments=answer), 52),
        )
        for name, code, most in counts:
            modules, lines, _ = imported(code)
            print(f"{name:40} {len(modules):4} modules, {lines:6,} lines (at most {most})", flush=True)
            bars.append(bar(f"modules: {name}", len(modules), most, len(modules) <= most))
        light = (["--help"], ["train", "--help"], ["score", "--help"], ["leaderboard", "--help"], ["leaderboard"])
        for arguments in light:
            torch = imported(COMMAND.format(arguments=arguments))[2]
            bars.append(bar(f"torch in {' '.join(arguments)}", int(torch), 0, not torch))
    for arguments in (["--help"], ["train", "--help"]):
        took = seconds(arguments, options.runs)
        print(f"mm-adapter {' '.join(arguments):29} {took:4.2f} s (at most 0.4), {os.cpu_count()} cores", flush=True)
        bars.append(bar(f"seconds: {' '.join(arguments)}", took, 0.4, took <= 0.4))
    missed = [found["name"] for found in bars if not found["holds"]]
    print("every bar holds" if not missed else f"missed: {', '.join(map(str, missed))}")
    if options.json is not None:
        write_bars(options.json, bars)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
