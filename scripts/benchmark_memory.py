"""What quantised, checkpointed and offloaded training costs and keeps, on the CPU with SmolLM2-135M.

    python scripts/benchmark_memory.py [--data DIR] [--steps N] [--length N] [--conversations N] [--only PART]
        [--json FILE]

Every figure comes from a process of its own, so that peak memory is its own. Four things are measured:

- peak memory of a training step on 8 sequences of 256 tokens, with and without checkpointed layers, in float32;
- bytes of the frozen model in each form: parameters, buffers and quantised matrices with their scales;
- perplexity of real responses (``--data``, split test) under each form;
- a short training on real conversations (``--data``, split train) under each setting: first and last losses, seconds a
  step, peak memory. Checkpointing and offloading change no number, so that losses differ by quantisation alone.

The default model is stored in Q4_1 (its embedding in Q8_0), and "float32" is what that file says: blocks lose nothing
by construction. The 4 bits of torchao, groups of 32 with a scale and a zero point, can all but repeat the file's own
grid, so they lose less here than on weights that were never quantised. Offloading is to a CPU here: the copies are made
and dropped as on CUDA, but the host's memory is the device's, and none is saved.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from bars import bar, write_bars

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.conversations import read_conversations
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, load_llama
from mm_adapter.llama.frozen.matrix import weight_bytes
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.encoded_sets import measure_responses, response_log_likelihoods
from mm_adapter.scoring.likelihoods import score_options
from mm_adapter.training.prepare_conversations import prepare_conversations

LAYERS, PROMPT_LENGTH, BATCH, LENGTH = 30, 10, 8, 256
RATE = 5e-3
FORMS = ("none", "int8", "int4", "blocks")
# Setting -> quantisation, checkpointed layers, offloaded layers.
SETTINGS = {
    "float32": ("none", False, False),
    "int8": ("int8", False, False),
    "int4": ("int4", False, False),
    "blocks": ("blocks", False, False),
    "checkpointed": ("none", True, False),
    "offloaded": ("none", False, True),
    "int4, checkpointed": ("int4", True, False),
}


def load(setting: str, length: int = LENGTH) -> MultimodalLlama:
    """Return the default model with a fresh adapter on all layers, for conversations of so many tokens."""
    quantization, checkpoint, offload = SETTINGS[setting]
    base = load_llama(DEFAULT_LLAMA, quantization=quantization, offload=offload)
    base.model.gradient_checkpointing = checkpoint
    adapter = Adapter(AdapterConfig(LAYERS, PROMPT_LENGTH), base.model.config)
    return MultimodalLlama(base, adapter, prompting=ConversationPrompting("alpaca", length))


def train_step(setting: str) -> dict[str, Any]:
    """Train one step on random tokens: 8 sequences of 256, of which the last 32 are learned."""
    model = load(setting)
    generator = torch.Generator().manual_seed(0)
    question = Question(pid="random", question="", options=("",), answer=0)
    rows = torch.randint(1000, 40000, (BATCH, LENGTH + 1), generator=generator).tolist()
    batch = collate([EncodedQuestion(question, tuple(row[:-32]), (tuple(row[-32:-1]),), (row[-1],)) for row in rows])
    start = time.perf_counter()
    score_options(model.llama, batch, model.prefixes()).language_loss.mean().backward()
    return {"seconds": time.perf_counter() - start}


def size(setting: str) -> dict[str, Any]:
    """Load the model alone."""
    start = time.perf_counter()
    base = load_llama(DEFAULT_LLAMA, quantization=SETTINGS[setting][0])
    return {"bytes": weight_bytes(base.model), "seconds": time.perf_counter() - start}


def perplexity(setting: str, data: str, count: int) -> dict[str, Any]:
    """Measure the base model on the first ``count`` test conversations."""
    model = load(setting)
    model.adapter = None
    found = measure_responses(
        model, prepare_conversations(model, read_conversations(data, split="test")[:count])[0], 2048
    )
    return {"perplexity": math.exp(found.loss), "tokens": found.tokens}


def train(setting: str, data: str, steps: int, length: int) -> dict[str, Any]:
    """Train on the first conversations of the training split, cut to ``length`` tokens."""
    model = load(setting, length)
    assert model.adapter is not None
    examples = prepare_conversations(model, read_conversations(data, split="train")[: steps * BATCH])[0]
    optimizer = torch.optim.AdamW(model.adapter.parameters(), lr=RATE)
    losses = []
    start = time.perf_counter()
    for step in range(steps):
        indices = [(step * BATCH + place) % len(examples.conversations) for place in range(BATCH)]
        sums, tokens = response_log_likelihoods(model, examples, indices)
        loss = -sums.sum() / tokens.sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return {"losses": losses, "seconds": (time.perf_counter() - start) / steps}


def work(job: str, setting: str, options: argparse.Namespace) -> dict[str, Any]:
    """Do one job in this process."""
    if job == "imports":
        return {}
    if job == "step":
        return train_step(setting)
    if job == "size":
        return size(setting)
    if job == "perplexity":
        return perplexity(setting, options.data, options.conversations)
    return train(setting, options.data, options.steps, options.length)


def spawn(job: str, setting: str, options: argparse.Namespace) -> dict[str, Any]:
    """Do one job in a process of its own; return what it says and the peak of its resident memory in MiB."""
    command = [sys.executable, __file__, "--worker", job, setting, "--steps", str(options.steps)]
    command += ["--conversations", str(options.conversations), "--length", str(options.length)]
    command += ["--data", options.data] if options.data else []
    # Large blocks go back to the system when they are freed: the peak is of what is used, not of what lies fallow.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{job} of {setting} failed; its message stands above.")
    result = {**json.loads(output.splitlines()[-1]), "peak": usage.ru_maxrss / 1024}
    print(f"  {job} {setting}: {json.dumps(result)}", file=sys.stderr)
    return result


def measure_steps(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare the peaks of a training step."""
    imports = spawn("imports", "float32", options)["peak"]
    names = ("float32", "checkpointed", "int4, checkpointed")
    peaks = {name: spawn("step", name, options) for name in names}
    print(f"\na step of {BATCH} x {LENGTH} tokens; a process that only imports has {imports:.0f} MiB")
    print(f"{'':20}{'peak MiB':>10}{'beyond imports':>16}{'seconds':>9}")
    for name, found in peaks.items():
        print(f"{name:20}{found['peak']:10.0f}{found['peak'] - imports:16.0f}{found['seconds']:9.1f}")
    ratio = peaks["checkpointed"]["peak"] / peaks["float32"]["peak"]
    return [bar("peak memory of a checkpointed step over a plain one's", ratio, 0.5, ratio <= 0.5)]


def measure_sizes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare the bytes of the frozen model."""
    found = {form: spawn("size", "float32" if form == "none" else form, options) for form in FORMS}
    bars = []
    print(f"\n{'frozen model':20}{'MB':>10}{'x float32':>11}{'peak MiB to load':>18}{'seconds':>9}")
    for form, limit in zip(FORMS, (1.0, 0.35, 0.2, 0.2), strict=True):
        ratio = found[form]["bytes"] / found["none"]["bytes"]
        megabytes = found[form]["bytes"] / 1e6
        print(f"{form:20}{megabytes:10.1f}{ratio:11.3f}{found[form]['peak']:18.0f}{found[form]['seconds']:9.1f}")
        if form != "none":
            bars.append(bar(f"{form}: bytes over float32's", ratio, limit, ratio <= limit))
    return bars


def measure_perplexities(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare the perplexities of real responses."""
    found = {form: spawn("perplexity", "float32" if form == "none" else form, options) for form in FORMS}
    bars = []
    print(f"\n{'perplexity':20}{'':>10}{'more':>11}  ({found['none']['tokens']} tokens of responses)")
    for form, limit in zip(FORMS, (0.0, 0.01, 0.05, 0.05), strict=True):
        more = found[form]["perplexity"] / found["none"]["perplexity"] - 1
        print(f"{form:20}{found[form]['perplexity']:10.4f}{more:11.2%}")
        if form != "none":
            bars.append(bar(f"{form}: perplexity over float32's, less 1", more, limit, abs(more) <= limit))
    return bars


def measure_training(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare short trainings; first and last losses are means of the first and last third of the steps."""
    found = {name: spawn("train", name, options) for name in SETTINGS}
    third = max(1, options.steps // 3)
    last = {name: sum(result["losses"][-third:]) / third for name, result in found.items()}
    bars = []
    print(f"\n{options.steps} steps of {BATCH}, L = {LAYERS}, K = {PROMPT_LENGTH}, {torch.get_num_threads()} threads")
    print(f"{'':20}{'first loss':>11}{'last loss':>11}{'of float32':>12}{'seconds a step':>16}{'peak MiB':>10}")
    for name, result in found.items():
        first, apart = sum(result["losses"][:third]) / third, last[name] / last["float32"] - 1
        numbers = f"{first:11.4f}{last[name]:11.4f}{apart:+12.2%}"
        print(f"{name:20}{numbers}{result['seconds']:16.2f}{result['peak']:10.0f}")
        holds = abs(apart) <= 0.02 and last[name] < first
        bars.append(bar(f"{name}: last loss over float32's, less 1", apart, 0.02, holds))
    return bars


PARTS = {
    "step": measure_steps,
    "size": measure_sizes,
    "perplexity": measure_perplexities,
    "training": measure_training,
}


def main() -> int:
    """Measure everything, print the tables, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="file of conversations, or folder with train and test; without it, sizes alone")
    parser.add_argument("--steps", type=int, default=30, help="of each short training")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a conversation in the short trainings")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="what to measure; all by default")
    parser.add_argument("--conversations", type=int, default=150, help="of the test split, for perplexity")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is None:
        options.only = list(PARTS) if options.data is not None else ["step", "size"]
    if options.worker:
        print(json.dumps(work(*options.worker, options)))
        return 0
    bars = []
    for part in options.only:
        bars += PARTS[part](options)
    for found in bars:
        print(f"{'holds' if found['holds'] else 'MISSED'}: {found['name']} {found['value']:.4f}, bar {found['bar']}")
    if options.json is not None:
        write_bars(options.json, bars)
    return 0


if __name__ == "__main__":
    sys.exit(main())
