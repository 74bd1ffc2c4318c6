"""Training speed and memory against PEFT's adaption prompt on transformers, and against the arithmetic floor.

    python scripts/benchmark_training.py [--data DIR] [--questions N] [--rounds N] [--jobs JOB ...] [--json FILE]

Both train the same adapter shape on the same SmolLM2-135M shape (random weights) with the same questions and the same
loss; ours sees a picture with every question, PEFT's none. They take turns, each in a process of its own, so that peak
memory is its own; a ratio is the median over rounds. PEFT's batch is the best of 4, 8 and 16. The jobs:

- letter: one sequence a question, loss on the answer's tokens, questions in the order of the dataset. PEFT pads the
  sequences of a step to the longest; ours stores them one after another.
- sorted: the same, questions sorted by length first, so that PEFT has next to nothing to pad.
- text: cross entropy over every option's mean log-likelihood; PEFT runs each option as a sequence of its own.
- half: letter with L = 15. A round is five epochs, in the first of which ours keeps the states below the adapter.
- bfloat16: letter in bfloat16, ours alone, beside ours in float32 and the floor of each.

The floor is the time that the decoder's matrix products alone take, measured in the same round: forward in every layer,
and gradients of their inputs in those that are adapted.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bars import bar, tell_bars
from training_contenders import PROMPT_LENGTH, SHAPE, Ours, Peft, right_only
from turns import Round, compete, median, ratio, take_turns, worker_settings

from mm_adapter.data.demo import write_demo
from mm_adapter.data.encoding import EncodedQuestion, encode_questions
from mm_adapter.data.readers import read_dataset
from mm_adapter.data.templates import Prompting
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, open_source

BATCH, EPOCHS = 8, 5
PEFT_BATCHES = (4, 8, 16)
# Of each job: least times PEFT's questions/s, most times the floor, most of PEFT's memory at the same batch.
BARS = {
    "letter": (5.2, 1.22, 0.32),
    "sorted": (4.0, None, None),
    "text": (None, None, 0.16),
    "half": (6.0, None, None),
    "bfloat16": (None, 1.6, None),
}


def encoded_questions(data: str, count: int, job: str) -> list[EncodedQuestion]:
    """Return the first ``count`` training questions with a picture as the job puts them."""
    tokenizer = open_source(DEFAULT_LLAMA).tokenizer()
    assert tokenizer is not None
    prompting = Prompting("QC-A", "text") if job == "text" else Prompting("QCM-A", "letter")
    questions = [question for question in read_dataset(data).split("train") if question.image is not None][:count]
    encoded = encode_questions(questions, prompting.make_template(), tokenizer, 512)[0]
    return sorted(encoded, key=lambda question: right_only(question).length) if job == "sorted" else encoded


def work(settings: dict[str, Any]) -> int:
    """Be one contender in this process."""
    job, batch = settings["job"], settings["batch"]
    dtype = getattr(torch, settings["dtype"])
    layers = SHAPE.num_layers // 2 if job == "half" else settings["layers"]
    questions = encoded_questions(settings["data"], settings["questions"], job)
    steps = [questions[start : start + batch] for start in range(0, len(questions), batch)]
    ours = Ours(layers, dtype, kept=job == "half") if settings["who"] == "ours" else None
    contender = ours or Peft(layers, dtype)

    def make() -> Round:
        if ours is not None and ours.states:
            ours.states.clear()
        start = time.perf_counter()
        tokens = sum(contender.step(step, job) for _ in range(EPOCHS if job == "half" else 1) for step in steps)
        seconds = time.perf_counter() - start
        result = {"seconds": seconds, "tokens": tokens, "questions": len(questions)}
        if ours is not None and job != "half":
            result["over floor"] = seconds / matrix_floor(layers, tokens, len(steps), dtype)
        return result

    return take_turns(make)


def matrix_floor(layers: int, tokens: int, steps: int, dtype: torch.dtype) -> float:
    """Return seconds that the decoder's matrix products alone take here: forward, and gradients where adapted.

    Every product is timed at the mean number of rows of a step.
    """
    rows = max(1, tokens // steps)
    hidden, keys, wide = SHAPE.hidden_size, SHAPE.num_kv_heads * SHAPE.head_dim, SHAPE.intermediate_size
    sizes = [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden)]
    sizes += [(hidden, wide), (hidden, wide), (wide, hidden)]
    forward = backward = 0.0
    for inputs, outputs in sizes:
        weight, features = torch.randn(outputs, inputs, dtype=dtype), torch.randn(rows, inputs, dtype=dtype)
        gradient = torch.randn(rows, outputs, dtype=dtype)
        forward += _seconds(lambda f=features, w=weight: F.linear(f, w))
        backward += _seconds(lambda g=gradient, w=weight: g @ w)
    return steps * (SHAPE.num_layers * forward + layers * backward)


def _seconds(run: Callable[[], Any], repeats: int = 10) -> float:
    run()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def contenders(job: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the settings of those who compete in a job."""
    shared = {"job": job, "data": options.data, "questions": options.questions, "layers": options.layers}
    shared |= {"batch": BATCH, "dtype": "float32", "who": "ours"}
    if job == "bfloat16":
        return {"ours": {**shared, "dtype": "bfloat16"}, "float32": shared}
    return {"ours": shared} | {f"PEFT {batch}": {**shared, "batch": batch, "who": "PEFT"} for batch in options.batches}


def compare(job: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the contenders of a job take turns; print their rows; return the bars."""
    results = compete(__file__, contenders(job, options), options.rounds)
    for name, rounds in results.items():
        rate = median(rounds, "questions") * (EPOCHS if job == "half" else 1) / median(rounds, "seconds")
        floor = f"{median(rounds, 'over floor'):9.2f}" if "over floor" in rounds[0] else ""
        row = f"{job:10}{name:9}{rate:12.2f}{median(rounds, 'tokens') / median(rounds, 'seconds'):10.0f}"
        print(f"{row}{median(rounds, 'peak_mib'):10.0f}{floor}", flush=True)
    ours = results.pop("ours")
    least, most, memory = BARS[job]
    bars = []
    speed = min(ratio(other, ours, "seconds") for other in results.values())
    if job == "bfloat16":
        bars.append(bar("bfloat16: questions/s over float32's", speed, 2.2, speed >= 2.2))
    elif least is not None:
        bars.append(bar(f"{job}: questions/s over PEFT's best", speed, least, speed >= least))
    if most is not None:
        over = median(ours, "over floor")
        bars.append(bar(f"{job}: time over the floor", over, most, over <= most))
    same = results.get(f"PEFT {BATCH}")
    if memory is not None and same is not None:
        share = median(ours, "peak_mib") / median(same, "peak_mib")
        bars.append(bar(f"{job}: peak memory over PEFT's, batch {BATCH}", share, memory, share <= memory))
    return bars


def main() -> int:
    """Run every job, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="dataset; the generated set by default")
    parser.add_argument("--questions", type=int, default=16, help="questions of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every contender")
    parser.add_argument("--layers", type=int, default=SHAPE.num_layers, help="adapted layers, L")
    parser.add_argument("--jobs", nargs="+", default=list(BARS), choices=BARS, help="what is timed")
    parser.add_argument("--batches", nargs="+", type=int, default=PEFT_BATCHES, help="batches of PEFT's")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    worker_settings(parser)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    bars = []
    with tempfile.TemporaryDirectory() as temporary:
        if options.data is None:
            options.data = f"{temporary}/data"
            write_demo(Path(options.data), size=300)
        print(f"L = {options.layers}, K = {PROMPT_LENGTH}, {BATCH} questions a step, {torch.get_num_threads()} threads")
        print(f"{'job':10}{'':9}{'questions/s':>12}{'tokens/s':>10}{'peak MiB':>10}{'x floor':>9}")
        for job in options.jobs:
            bars += compare(job, options)
    tell_bars(bars, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
