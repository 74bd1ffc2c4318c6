"""What the kinds of image prompts cost: seconds of a training step, beside one another in one run.

    python scripts/benchmark_image_prompts.py --data DIR [--pairs N] [--json FILE]

SmolLM2 with the settings of a preset trains on the questions with a picture, whose features and tokens are computed
before. Each kind takes the same steps in turn, again and again; compared are medians of the ratio to ``shared``.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from bars import bar, write_bars

from mm_adapter.core.files import cache_folder
from mm_adapter.data.readers import read_dataset
from mm_adapter.distributed import SINGLE_PROCESS
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.scoring.encoded_sets import HiddenStateCache
from mm_adapter.training.config import load_config, override
from mm_adapter.training.prepare import prepare
from mm_adapter.training.run import build_model
from mm_adapter.training.step import Stepper, set_lr
from mm_adapter.training.task import QuestionTask

KINDS = ("shared", "tiles", "query")
MOST = {"tiles": 1.15, "query": 1.4}


def main() -> int:
    """Measure, print a table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", required=True, help="ScienceQA folder or table with pictures")
    parser.add_argument("--preset", default="smollm2", help="whose settings are used")
    parser.add_argument("--views", help="views of a picture; the preset's by default")
    parser.add_argument("--questions", type=int, default=96, help="with a picture, in turn")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved measurements")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    asked = [question for question in read_dataset(options.data).split("train") if question.image is not None]
    asked = asked[: options.questions]
    common = {} if options.views is None else {"views": options.views}
    settings = load_config(options.preset)
    base, batch = load_llama(settings.llama, getattr(torch, settings.dtype)), settings.batch_size
    steppers: dict[str, Stepper] = {}
    for kind in KINDS:
        config = override(settings, {**common, "image_prompts": kind}, "options")
        model = build_model(config, base)
        examples = prepare(model, asked, features=cache_folder() / "features").examples
        task = QuestionTask(model, examples, examples, config)
        assert model.trained is not None
        stepper = Stepper(model.trained, task, HiddenStateCache(model), config, SINGLE_PROCESS)
        set_lr(stepper.optimizer, 0.01)
        steppers[kind] = stepper
    steps = [list(range(start, start + batch)) for start in range(0, len(asked) - batch + 1, batch)]
    for stepper in steppers.values():
        for step in steps:  # fills the cache of states
            stepper.step(step)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(options.pairs):
        for kind, stepper in steppers.items():
            start = time.perf_counter()
            for step in steps:
                stepper.step(step)
            times[kind].append((time.perf_counter() - start) / len(steps))
    bars = []
    print(f"{'image prompts':14} {'s a step':>9} {'questions/s':>12} {'of shared':>10}")
    for kind, own in times.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(own, times["shared"], strict=True))
        median = statistics.median(own)
        print(f"{kind:14} {median:9.3f} {batch / median:12.1f} {ratio:10.3f}")
        if kind in MOST:
            bars.append(bar(f"step of {kind} over shared", ratio, MOST[kind], ratio <= MOST[kind]))
    if options.json is not None:
        write_bars(options.json, bars)
    return 0 if all(found["holds"] for found in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
