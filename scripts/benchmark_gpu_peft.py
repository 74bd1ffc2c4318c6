"""Speed and memory of 7B on a GPU against PEFT's adaption prompt on transformers, with and without torch.compile.

    python scripts/benchmark_gpu_peft.py [--shape llama-7b] [--device h200] [--repeats 10] [--json FILE]

Both have the same shape of random bfloat16 weights and 30 adapted layers of 10 prompts, and take the same steps: 4
passes over 4 sequences of 256 tokens, with the loss on the last 128. Each runs in a process of its own, so that peak
memory is its own. A share of the peak counts the operations of our pass, by PyTorch's counter, whoever takes the time.
``--shape small --device cpu`` tries the script itself anywhere.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bars import bar, write_bars
from benchmark_gpu import ANSWER, IN_A_PASS, PASSES, SMALL, TOKENS
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.llama import LlamaConfig
from mm_adapter.planning.devices import find_device
from mm_adapter.planning.shapes import SHAPES
from mm_adapter.planning.synthetic import random_llama
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import score_options

PROMPT_LENGTH = 10
CONTENDERS = ("ours", "PEFT", "ours, compiled", "PEFT, compiled")


class Ours:
    """This package: logits of answer positions alone, layers below the adapter without a graph."""

    def __init__(self, shape: LlamaConfig, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        self.llama = random_llama(shape, dtype, device).model
        self.adapter = Adapter(AdapterConfig(min(30, shape.num_layers), PROMPT_LENGTH), shape).to(device)
        self.trained = list(self.adapter.parameters())
        if compiled:
            for layer in self.llama.layers:
                layer.compile()

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the mean loss of the answers of ``tokens`` ``(B, T)`` int64."""
        questions = []
        for number, row in enumerate(tokens.tolist()):
            # The last token is predicted, not fed: one more makes the pass T tokens long, as the other's is.
            answer = (*row[-ANSWER:], 0)
            question = Question(str(number), "random", ("only",), 0)
            questions.append(EncodedQuestion(question, tuple(row[:-ANSWER]), (answer,), ()))
        batch = collate(questions).to(self.llama.device)
        prefixes = list(self.adapter.prefixes(self.llama))
        return score_options(self.llama, batch, prefixes, None, self.adapter.first_layer).language_loss.mean()


class Peft:
    """PEFT's adaption prompt on transformers, used as their documentation shows."""

    def __init__(self, shape: LlamaConfig, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        from peft import AdaptionPromptConfig, get_peft_model
        from transformers import LlamaConfig as Config
        from transformers import LlamaForCausalLM

        config = Config(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            intermediate_size=shape.intermediate_size,
            rms_norm_eps=shape.norm_epsilon,
            use_cache=False,
        )
        with torch.device(device):
            base = LlamaForCausalLM._from_config(config, dtype=dtype)
        settings = AdaptionPromptConfig(
            adapter_layers=min(30, shape.num_layers), adapter_len=PROMPT_LENGTH, task_type="CAUSAL_LM"
        )
        self.model = get_peft_model(base, settings)
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        if compiled:
            self.model.compile()

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the mean loss of the answers of ``tokens`` ``(B, T)`` int64."""
        labels = tokens.clone()
        labels[:, :-ANSWER] = -100
        return self.model(input_ids=tokens, labels=labels).loss


def work(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Time one contender in this process."""
    device = torch.device("cpu" if options.device == "cpu" else "cuda")
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    shape = _shape(options.shape)
    torch.manual_seed(0)
    kind: Callable[..., Any] = Ours if name.startswith("ours") else Peft
    contender = kind(shape, device, dtype, name.endswith("compiled"))
    optimizer = torch.optim.AdamW(contender.trained, lr=1e-3)
    tokens = torch.randint(shape.vocab_size, (PASSES, IN_A_PASS, TOKENS)).to(device)

    def step() -> None:
        for part in tokens:
            (contender.loss(part) / PASSES).backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def forward() -> None:
        for part in tokens:
            contender.loss(part)

    start = time.perf_counter()
    step()
    forward()
    result = {"first_seconds": time.perf_counter() - start}
    if name == "ours":
        with FlopCounterMode(display=False) as counter:
            loss = contender.loss(tokens[0])
            result["forward_operations"] = PASSES * counter.get_total_flops()
            loss.backward()
            result["step_operations"] = PASSES * counter.get_total_flops()
        optimizer.zero_grad()
    for key, run in (("step_seconds", step), ("forward_seconds", forward)):
        result[key] = _median_seconds(run, device, options.repeats)
    on_gpu = device.type == "cuda"
    result["peak"] = (
        torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return result


def _median_seconds(run: Callable[[], None], device: torch.device, repeats: int) -> float:
    taken = []
    for number in range(repeats + 2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _shape(name: str) -> LlamaConfig:
    return SMALL if name == "small" else SHAPES[name]


def main() -> int:
    """Run every contender, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="llama-7b", choices=["small", *SHAPES], help="of the base model")
    parser.add_argument("--device", default="h200", help="kind of the GPU that is here, or cpu")
    parser.add_argument("--repeats", type=int, default=10, help="steps that are timed")
    parser.add_argument(
        "--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS, help="who runs; by default all"
    )
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options)))
        return 0
    rate = find_device(options.device).rate("float32" if options.device == "cpu" else "bfloat16")
    heads = f"{'forward tokens/s':>18}{'of peak':>9}{'step tokens/s':>15}{'of peak':>9}{'peak GB':>9}{'first s':>9}"
    print(f"{'':16}{heads}")
    results: dict[str, dict[str, float]] = {}
    for name in options.contenders:
        found = _spawn(name, options)
        if found is not None:
            results[name] = found
            # At once: compiling may outlast the time that a machine is lent for.
            print(_row(name, found, results.get("ours"), rate), flush=True)
    if "ours" not in results or "PEFT" not in results:
        return 1
    ours, peft = results["ours"], results["PEFT"]
    speed, memory = peft["step_seconds"] / ours["step_seconds"], ours["peak"] / peft["peak"]
    print(f"step {speed:.2f} x PEFT, forward {peft['forward_seconds'] / ours['forward_seconds']:.2f} x PEFT")
    if options.json is not None:
        bars = [
            bar("step: tokens/s over PEFT's", speed, 1.0, speed >= 1.0),
            bar("peak memory over PEFT's", memory, 1.0, memory <= 1.0),
        ]
        write_bars(options.json, bars)
    return 0


def _row(name: str, result: dict[str, float], ours: dict[str, float] | None, rate: float) -> str:
    cells = [f"{name:16}"]
    for part, width in (("forward", 18), ("step", 15)):
        seconds = result[f"{part}_seconds"]
        share = "" if ours is None else f"{ours[f'{part}_operations'] / seconds / rate:.1%}"
        cells.append(f"{PASSES * IN_A_PASS * TOKENS / seconds:{width},.0f}{share:>9}")
    return "".join(cells) + f"{result['peak'] / 1e9:9.2f}{result['first_seconds']:9.1f}"


def _spawn(name: str, options: argparse.Namespace) -> dict[str, float] | None:
    """Run one contender; return None, and say why, where it fails: torch's compiler takes not every model."""
    command = [sys.executable, __file__, "--worker", name, "--shape", options.shape, "--device", options.device]
    done = subprocess.run([*command, "--repeats", str(options.repeats)], capture_output=True, text=True)
    if done.returncode:
        print(f"{name}: failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
