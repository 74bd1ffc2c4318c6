"""Writing against ``generate`` of transformers with the same weights: one prompt, sixteen at a time, long texts.

    python scripts/benchmark_writing.py [--tokens N] [--rounds N] [--llama NAME] [--json FILE]

Both write the most likely tokens in float32 and take turns, each in a process of its own; ``batch 16`` has prompts of
20 to 200 tokens. What reading the prompts takes is counted. A long text is streamed to 4,000 tokens: what its last
tokens take beyond a pass of the model at that length, against the same after 400.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from bars import bar, tell_bars
from reference_llama import reference_llama
from turns import Round, compete, median, ratio, take_turns, worker_settings

from mm_adapter.inference.generation import generate_tokens, stream_tokens
from mm_adapter.llama import Llama
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, LoadedLlama, load_llama
from mm_adapter.llama.tokenizers.tokenizer import TextStream

BARS = {"batch 1": 1.0, "batch 16": 1.5}
LENGTHS = {"batch 1": [100], "batch 16": [20 + 12 * row for row in range(16)]}
SHORT, LONG, GROWTH, SAMPLE = 400, 4000, 1.1, 64


def work(settings: dict[str, Any]) -> int:
    """Be one contender in this process."""
    base = load_llama(settings["llama"])
    if settings["job"] == "long":
        return take_turns(lambda: long_text(base))
    generator = torch.Generator().manual_seed(0)
    prompts = [
        torch.randint(base.model.config.vocab_size, (length,), generator=generator).tolist()
        for length in LENGTHS[settings["job"]]
    ]
    tokens = settings["tokens"]
    write = ours if settings["who"] == "ours" else transformers
    run = write(base.model, prompts, tokens)

    def make() -> Round:
        start = time.perf_counter()
        run()
        return {"seconds": time.perf_counter() - start, "tokens": tokens * len(prompts)}

    return take_turns(make)


def ours(llama: Llama, prompts: list[list[int]], tokens: int) -> Any:
    """Return a function that writes on the prompts."""
    return lambda: generate_tokens(llama, prompts, (), max_new_tokens=tokens)


def transformers(llama: Llama, prompts: list[list[int]], tokens: int) -> Any:
    """Return the same by transformers, prompts filled up on the left."""
    model = reference_llama(llama)
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return lambda: model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens)


def long_text(base: LoadedLlama) -> Round:
    """Return seconds a token that decoding of the text takes, early and late in a long one."""
    assert base.tokenizer is not None
    words = base.tokenizer.encode("A magnet pulls iron, nickel and cobalt towards it; wood it leaves alone. ")
    ids = (words * (1 + LONG // len(words)))[:LONG]
    stream, times = TextStream(base.tokenizer), []
    for token in ids:
        start = time.perf_counter()
        stream.push(token)
        times.append(time.perf_counter() - start)
    early, late = (sum(times[end - SAMPLE : end]) / SAMPLE for end in (SHORT, LONG))
    # A short text's own tokens, for scale.
    writer = stream_tokens(base.model, [words], (), None, 24)
    next(writer)
    start = time.perf_counter()
    count = sum(1 for _ in writer)
    return {"early": early, "late": late, "token": (time.perf_counter() - start) / count}


def main() -> int:
    """Let both take turns at every job, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--llama", default=DEFAULT_LLAMA, help="base model")
    parser.add_argument("--tokens", type=int, default=32, help="tokens that are written on each prompt")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    worker_settings(parser)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    print(f"{options.llama}, {options.tokens} tokens on each prompt, {torch.get_num_threads()} threads")
    bars = []
    for job, least in BARS.items():
        shared = {"job": job, "llama": options.llama, "tokens": options.tokens}
        contenders = {who: {**shared, "who": who} for who in ("ours", "transformers")}
        results = compete(__file__, contenders, options.rounds)
        for who, rounds in results.items():
            print(f"{job:10}{who:14}{median(rounds, 'tokens') / median(rounds, 'seconds'):8.1f} tokens/s", flush=True)
        speed = ratio(results["transformers"], results["ours"], "seconds")
        bars.append(bar(f"{job}: tokens/s over transformers'", speed, least, speed >= least))
    alone = {"ours": {"job": "long", "llama": options.llama, "who": "ours"}}
    rounds = compete(__file__, alone, options.rounds)["ours"]
    early, late, token = (1000 * median(rounds, key) for key in ("early", "late", "token"))
    print(
        f"long text: decoding takes {early:.3f} ms after {SHORT} tokens, {late:.3f} after {LONG}; a token {token:.1f}"
    )
    growth = (token + late) / (token + early)
    name = f"time per token at {LONG} tokens over that at {SHORT}, beyond attention"
    bars.append(bar(name, growth, GROWTH, growth <= GROWTH))
    tell_bars(bars, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
