"""Time per written token: the base model, the same with an adapter, without a cache, and transformers.

    python scripts/benchmark_generation.py [--llama NAME] [--tokens N] [--rounds N] [--clock wall|cpu] [--json FILE]

The adapter has the method's shape, L 30 and K 10, untrained but with open gates; its values do not matter for speed.
All contenders write at once, a token each by turns, so that whatever else the machine does slows all of them alike. A
ratio is the median over all tokens of a contender's time over the base model's time for the same token. On a machine
that others use, ``--clock cpu`` counts the time that this process was given instead of what went by; threads add up.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from bars import bar, write_bars

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.inference.generation import stream_tokens
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, load_llama
from mm_adapter.llama.model import Prefixes

LAYERS, PROMPT_LENGTH, GATE, IMAGE_SIZE = 30, 10, 0.3, 512
LIMIT = 1.10
BASE, ADAPTER, PICTURE, NAIVE = "base", "adapter", "adapter, picture", "base, no cache"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]


def open_prefixes(llama: Llama, picture: bool) -> Prefixes:
    """Return prefixes of an adapter with open gates, with a picture's vector if wanted."""
    layers = min(LAYERS, llama.config.num_layers)
    adapter = Adapter(AdapterConfig(layers, PROMPT_LENGTH, image_size=IMAGE_SIZE), llama.config).requires_grad_(False)
    assert adapter.gates is not None
    torch.nn.init.constant_(adapter.gates, GATE)
    return adapter.to(llama.device).prefixes(llama, torch.ones(1, IMAGE_SIZE, device=llama.device) if picture else None)


@torch.no_grad()
def write_naively(llama: Llama, prompt: Sequence[int]) -> Iterator[None]:
    """Write without a cache: every token is a pass over all before it."""
    tokens = torch.tensor([list(prompt)], device=llama.device)
    while True:
        chosen = llama.logits(llama.run_layers(llama.embedding(tokens), torch.arange(tokens.shape[1]))[:, -1]).argmax(
            -1
        )
        tokens = torch.cat((tokens, chosen[:, None]), dim=1)
        yield


def time_tokens(writers: dict[str, Iterator[object]], tokens: int, clock: Clock) -> dict[str, list[float]]:
    """Return seconds of each token of each writer; the first, which reads the prompt, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    names = list(writers)
    for writer in writers.values():
        next(writer)
    for step in range(tokens):
        # None of them always comes right after the same one.
        for name in names[step % len(names) :] + names[: step % len(names)]:
            start = clock()
            next(writers[name])
            seconds[name].append(clock() - start)
    return seconds


def transformers_writer(shape: LlamaConfig, prompt: Sequence[int], clock: Clock) -> Callable[[int], float]:
    """Return a function that measures seconds per token of transformers' ``generate``: same shape, random weights."""
    from transformers import LlamaConfig as Config
    from transformers import LlamaForCausalLM

    config = Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.tensor([list(prompt)])

    def write(tokens: int) -> float:
        start = clock()
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
        return clock() - start

    # What reading the prompt takes is not the tokens'.
    return lambda tokens: (write(tokens + 1) - write(1)) / tokens


def main() -> int:
    """Measure, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama", default=DEFAULT_LLAMA, help="base model")
    parser.add_argument("--tokens", type=int, default=32, help="tokens that are written in a round")
    parser.add_argument("--rounds", type=int, default=5, help="how often all is written anew")
    parser.add_argument("--prompt", type=int, default=100, help="tokens that are read before")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="wall, or cpu: time given to this process")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    llama = load_llama(options.llama).model
    prompt = torch.randint(llama.config.vocab_size, (options.prompt,)).tolist()
    prefixes = {BASE: None, ADAPTER: open_prefixes(llama, False), PICTURE: open_prefixes(llama, True)}
    seconds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        writers: dict[str, Iterator[object]] = {
            name: stream_tokens(llama, [prompt], (), prefix, options.tokens + 1) for name, prefix in prefixes.items()
        }
        writers[NAIVE] = write_naively(llama, prompt)
        for name, times in time_tokens(writers, options.tokens, clock).items():
            seconds.setdefault(name, []).extend(times)
    if importlib.util.find_spec("transformers") is not None:
        write = transformers_writer(llama.config, prompt, clock)
        seconds["transformers"] = [write(options.tokens) for _ in range(options.rounds)]
    print(
        f"{options.llama}, {str(llama.dtype).removeprefix('torch.')}, L = {min(LAYERS, llama.config.num_layers)}, "
        f"K = {PROMPT_LENGTH}, {options.rounds} x {options.tokens} tokens after {options.prompt}, "
        f"{torch.get_num_threads()} threads, {options.clock} clock"
    )
    print(f"{'':18}{'ms/token':>10}{'tokens/s':>10}{'x base':>8}")
    base = statistics.median(seconds[BASE])
    bars = []
    for name, times in seconds.items():
        median = statistics.median(times)
        paired = len(times) == len(seconds[BASE])
        ratios = [own / other for own, other in zip(times, seconds[BASE], strict=True)] if paired else [median / base]
        ratio = statistics.median(ratios)
        print(f"{name:18}{1000 * median:10.2f}{1 / median:10.1f}{ratio:8.3f}")
        if name in (ADAPTER, PICTURE):
            bars.append(bar(f"{name}: time per written token over the base model's", ratio, LIMIT, ratio <= LIMIT))
    if options.json is not None:
        write_bars(options.json, bars)
    return 0


if __name__ == "__main__":
    sys.exit(main())
