"""Where the time of a training step goes: torch's profiler over steps of the benchmark, by kind of operation.

    python scripts/profile_training.py [--data DIR] [--steps N] [--layers L] [--job letter|text] [--json FILE]

Time is that of the operations themselves, on one thread, by what they do: matrix products, attention to the text and to
the prompts, what works value by value, what copies. What is left of a step's time is Python and the calls themselves.
The floor of the matrix products is measured right after (``benchmark_training.py``).
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from bars import bar, write_bars
from benchmark_training import BATCH, encoded_questions, matrix_floor
from torch.profiler import ProfilerActivity, profile
from training_contenders import SHAPE, Ours

from mm_adapter.data.demo import write_demo

PRODUCTS, ATTENTION, COPIES, VALUES = "matrix products", "attention", "copying", "value by value"
KINDS = {
    PRODUCTS: ("mm", "addmm", "bmm"),
    ATTENTION: ("flash_attention",),
    COPIES: ("copy_", "cat", "index", "fill_", "zero_", "clone", "gather", "embedding", "as_strided", "narrow"),
    VALUES: (
        *("mul", "add", "sub", "div", "pow", "rsqrt", "mean", "sum", "silu", "exp", "log", "tanh", "softmax", "neg"),
        *("cos", "sin", "sqrt", "gelu", "norm", "addcmul", "addcdiv", "lerp"),
    ),
}
LIMIT = 1.22


def kind_of(operation: str) -> str:
    """Return the kind of an operation by its name; the first that fits."""
    name = operation.removeprefix("aten::")
    if "flash_attention" in name:
        return ATTENTION
    if name in KINDS[PRODUCTS]:
        return PRODUCTS
    for kind in (COPIES, VALUES):
        if any(name.strip("_").startswith(part.strip("_")) for part in KINDS[kind]):
            return kind
    return "calls and the rest"


def main() -> int:
    """Profile, print the table, write the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="dataset; the generated set by default")
    parser.add_argument("--steps", type=int, default=3, help="steps that are profiled, after one that is not")
    parser.add_argument("--layers", type=int, default=SHAPE.num_layers, help="adapted layers, L")
    parser.add_argument("--job", default="letter", choices=("letter", "text"), help="what is trained")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        data = options.data or f"{temporary}/data"
        if options.data is None:
            write_demo(Path(data), size=300)
        questions = encoded_questions(data, BATCH * options.steps, options.job)
    steps = [questions[start : start + BATCH] for start in range(0, len(questions), BATCH)]
    ours = Ours(options.layers, torch.float32)
    ours.step(steps[0], options.job)
    start = time.perf_counter()
    tokens = sum(ours.step(step, options.job) for step in steps)
    seconds = time.perf_counter() - start
    floor = matrix_floor(options.layers, tokens, len(steps), torch.float32)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for step in steps:
            ours.step(step, options.job)
    spent: Counter[str] = Counter()
    for event in recorded.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total / 1e6
    total = sum(spent.values())
    print(
        f"L = {options.layers}, {options.job}, {BATCH} questions a step, {tokens / len(steps):.0f} tokens, one thread"
    )
    print(f"{'':24}{'share':>8}{'s a step':>10}")
    for kind, measured in spent.most_common():
        print(f"{kind:24}{measured / total:8.1%}{seconds * measured / total / len(steps):10.3f}")
    print(f"{'a step':24}{'':8}{seconds / len(steps):10.3f}")
    print(f"{'its floor':24}{'':8}{floor / len(steps):10.3f}   {seconds / floor:.2f} x")
    if options.json is not None:
        write_bars(options.json, [bar("time over the floor", seconds / floor, LIMIT, seconds / floor <= LIMIT)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
