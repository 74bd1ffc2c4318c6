"""How time and memory grow with the data, the length of questions, K and L.

    python scripts/benchmark_growth.py [--sizes N ...] [--plot FILE] [--json FILE]

- reading: 52,002 instructions and 12,726 questions with their options, generated, read and encoded.
- epochs: generated questions, more and more, trained on once with a tiny random model, so that what is not the model
  shows; seconds a question and the most memory beyond what the process had before, each size in a process of its own.
- a step of SmolLM2's shape against tokens of a question, K and L, each alone; the exponent is the slope of the
  logarithms over the larger half of what was tried, where what does not grow no longer hides it.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from bars import bar, tell_bars
from training_contenders import SHAPE

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.conversations import read_conversations
from mm_adapter.data.readers import read_dataset
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.model import MultimodalLlama
from mm_adapter.planning.synthetic import random_llama, random_questions
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import score_options
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.run import adapter_config
from mm_adapter.training.task import QuestionTask
from mm_adapter.training.trainer import Trainer

LINEAR, FLAT, READING = 1.25, 1.2, 20.0
LENGTHS, PROMPTS, LAYERS = (32, 64, 128, 256, 512, 1024, 2048), (1, 4, 16, 64), (1, 5, 10, 20, 30)


def reading_seconds(folder: Path) -> float:
    """Return seconds to read 52,002 instructions and 12,726 questions."""
    records = [
        {
            "instruction": f"Add {number} and {number % 97}.",
            "input": "",
            "output": f"The sum is {number + number % 97}.",
        }
        for number in range(52_002)
    ]
    (folder / "alpaca.json").write_text(json.dumps(records), encoding="utf-8")
    rows = [
        {"question": f"Which is larger than {number}?", "choices": [str(number - 1), str(number + 1)], "answer": 1}
        for number in range(12_726)
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    start = time.perf_counter()
    assert len(read_conversations(str(folder / "alpaca.json"))) == len(records)
    assert len(read_dataset(str(folder / "questions.jsonl")).questions) == len(rows)
    return time.perf_counter() - start


def epoch(count: int) -> dict[str, float]:
    """Train on ``count`` generated questions once in this process; return seconds a question, and peak memory."""
    shape = LlamaConfig(300, 48, 4, 6, 2, 8, 80, 256, tied_embeddings=True)
    config = TrainingConfig(
        vision="none", layers=2, prompt_length=3, epochs=1, warmup_epochs=0, batch_size=8, dtype="float32"
    )
    base = random_llama(shape, torch.float32)
    model = MultimodalLlama(base, Adapter(adapter_config(config, 0, ()), shape))
    sizes = (40, 6, shape.vocab_size)
    train, val = random_questions(count, *sizes), random_questions(64, *sizes, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, QuestionTask(model, train, val, config), config, Path(folder), quiet=True)
        start = time.perf_counter()
        trainer.run()
        seconds = time.perf_counter() - start
    return {"seconds": seconds / count, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def step_seconds(llama: Llama, tokens: int, prompt_length: int, layers: int, repeats: int) -> float:
    """Return the median seconds of a step on one question."""
    adapter = Adapter(AdapterConfig(layers, prompt_length), SHAPE)
    [question] = random_questions(1, tokens, max(2, min(9, tokens // 2)), SHAPE.vocab_size).questions
    batch, times = collate([question]), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        scores = score_options(llama, batch, adapter.prefixes(llama), None, adapter.first_layer)
        scores.language_loss.sum().backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def exponent(points: dict[int, float]) -> float:
    """Return the slope of log time over log size, over the larger half of the sizes."""
    sizes = sorted(points)[-max(2, (len(points) + 1) // 2) :]
    slope, _ = statistics.linear_regression([math.log(size) for size in sizes], [math.log(points[n]) for n in sizes])
    return slope


def draw(curves: dict[str, dict[int, float]], path: Path) -> None:
    """Write a plot of time a step against each size, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(4 * len(curves), 3.2), layout="constrained", sharey=True)
    for place, (name, points) in zip(axes, curves.items(), strict=True):
        place.loglog(list(points), list(points.values()), marker="o")
        place.set(xlabel=name, title=f"exponent {exponent(points):.2f}")
        place.grid(visible=True, which="both", alpha=0.3)
    axes[0].set_ylabel("seconds a question")
    figure.savefig(path)


def main() -> int:
    """Measure, print the tables, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", nargs="+", type=int, default=[500, 5000, 50_000], help="questions of an epoch")
    parser.add_argument("--repeats", type=int, default=5, help="steps that are timed at each size")
    parser.add_argument("--plot", type=Path, help="write a plot of a step's time to this file, svg or png")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(epoch(options.worker)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        reading = reading_seconds(Path(folder))
    print(f"reading 52,002 instructions and 12,726 questions: {reading:.1f} s")
    epochs: dict[int, dict[str, float]] = {}
    for size in options.sizes:
        command = [sys.executable, __file__, "--worker", str(size)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        epochs[size] = json.loads(output.splitlines()[-1])
        each, peak = 1000 * epochs[size]["seconds"], epochs[size]["peak"]
        print(f"{size:8} questions: {each:.2f} ms each, {peak:.0f} MiB at most", flush=True)
    first, last = epochs[options.sizes[0]], epochs[options.sizes[-1]]
    llama = Llama(SHAPE).requires_grad_(False)
    torch.nn.init.normal_(llama.embedding.weight, std=0.02)
    curves = {
        "tokens of a question": {size: step_seconds(llama, size, 10, 30, options.repeats) for size in LENGTHS},
        "prompts, K": {size: step_seconds(llama, 64, size, 30, options.repeats) for size in PROMPTS},
        "adapted layers, L": {size: step_seconds(llama, 64, 10, size, options.repeats) for size in LAYERS},
    }
    for name, points in curves.items():
        row = "  ".join(f"{size}: {1000 * seconds:.0f}" for size, seconds in points.items())
        print(f"{name} -> ms a question: {row}; exponent {exponent(points):.2f}")
    if options.plot is not None:
        draw(curves, options.plot)
    linear, flat = last["seconds"] / first["seconds"], last["peak"] / first["peak"]
    bars = [
        bar("seconds to read 52,002 instructions and 12,726 questions", reading, READING, reading <= READING),
        bar("time a question, most over fewest questions", linear, LINEAR, linear <= LINEAR),
        bar("peak memory, most over fewest questions", flat, FLAT, flat <= FLAT),
    ]
    tell_bars(bars, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
