"""Write docs/scale.md: what training 7B, 13B and 70B takes on 1 to 64 devices, as planned.

python scripts/make_scale.py [--out docs/scale.md]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mm_adapter.core.files import write_text
from mm_adapter.planning.devices import GPUS, find_device
from mm_adapter.planning.fitting import suggest
from mm_adapter.planning.image_costs import TowerShape
from mm_adapter.planning.plan import UTILISATION, Plan, make_plan
from mm_adapter.planning.plan_text import as_time
from mm_adapter.planning.shapes import SHAPES, BaseShape
from mm_adapter.planning.workload import TYPICAL, make_workload
from mm_adapter.training.config import TrainingConfig

RANKS = (1, 2, 4, 8, 16, 32, 64)
PAPER_SECONDS = 3600.0  # "one hour for fine-tuning on 8 A100 GPUs" (arXiv 2303.16199, abstract)
COMMAND = (
    "mm-adapter plan --llama llama-7b --vision none --device h100 --dtype bfloat16 --batch 16 --token-budget 1024 "
)
COMMAND += "--layers 30 --question-tokens 256 --answer-tokens 128"


def plan_of(name: str, device: str, ranks: int, tokens: int, answers: int, **values: Any) -> Plan:
    """Return the plan of the published adapter (K 10, L 30) on a named shape, in bfloat16."""
    settings = {"vision": "none", "layers": 30, "prompt_length": 10, "dtype": "bfloat16", "cache_states": False}
    config = TrainingConfig(**{**settings, "task": "conversations", "batch_size": 64, "epochs": 5.0, **values})
    load = make_workload(config, ranks, question_tokens=tokens, answer_tokens=answers)
    return make_plan(BaseShape(name, SHAPES[name]), config, find_device(device), load, TowerShape(0, 0), ranks)


def fitted(plan: Plan) -> tuple[Plan, str]:
    """Return the plan with the fewest changes that make it fit, the quickest of them; and what was changed."""
    if plan.fits:
        return plan, "as it is"
    found = suggest(plan)
    if not found:
        return plan, "does not fit"
    chosen = max(found, key=lambda item: item.plan.tokens_per_second)
    return chosen.plan, f"`{chosen.options}`"


def table(name: str, device: str, sharded: bool = False) -> list[str]:
    """Return the lines of one table: a row for every number of devices, of more than one where layers are sharded."""
    tokens, answers, _ = TYPICAL["conversations"]
    lines = [
        f"### {name} on {device}{', sharded' if sharded else ''}",
        "",
        "| devices | settings | questions a pass | memory a device | tokens/s | an epoch | communication | over one |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    alone = 0.0
    for ranks in RANKS[1:] if sharded else RANKS:
        values = {"sharding": "full"} if sharded else {}
        plan, changed = fitted(plan_of(name, device, ranks, tokens, answers, token_budget=2048, **values))
        alone = alone or plan.tokens_per_second / plan.ranks
        lines.append(
            f"| {ranks} | {changed} | {plan.load.questions} | {plan.memory.peak / 1e9:.1f} GB | "
            f"{plan.tokens_per_second:,.0f} | {as_time(plan.epoch_seconds)} | {plan.communication_share:.1%} | "
            f"{plan.tokens_per_second / alone:.1f} |"
        )
    return [*lines, ""]


def papers_hour() -> list[str]:
    """Return the lines on the published training time."""
    padded = plan_of("llama-7b", "a100", 8, 512, 511, token_budget=4096)
    packed = plan_of("llama-7b", "a100", 8, *TYPICAL["conversations"][:2], token_budget=4096)
    off = padded.run_seconds / PAPER_SECONDS - 1
    needed = padded.utilisation * padded.run_seconds / PAPER_SECONDS
    return [
        "## The paper's hour",
        "",
        "LLaMA-Adapter (arXiv 2303.16199) reports an hour for Alpaca's 52K on 8 A100: 7B, K 10, L 30, five epochs.",
        "The original code pads every example to 512 tokens and computes the logits of all of them; so is it planned,",
        "with batch 64.",
        "",
        "| | planned |",
        "| --- | --- |",
        f"| work | {padded.flops_per_question / 1e12:.2f} TFLOP an example, {padded.load.epoch_questions:,} examples |",
        f"| time at the assumed {padded.utilisation:.0%} of 312 TFLOP/s | {as_time(padded.run_seconds)} |",
        f"| off the paper's hour by | {off:+.1%} |",
        f"| utilisation at which it is the hour | {needed:.1%} |",
        f"| peak memory a device | {padded.memory.peak / 1e9:.1f} GB |",
        f"| the same unpadded, {packed.load.question_tokens} tokens in the mean | {as_time(packed.run_seconds)} |",
        "",
        "The paper does not say what its hour includes or which utilisation it reached: the agreement says that the",
        "assumed utilisation is a sensible one, no more.",
        "",
    ]


def one_device() -> list[str]:
    """Return the lines on 7B on one H100, for which there is a command to measure with."""
    values = {"batch_size": 16, "token_budget": 1024}
    plan = plan_of("llama-7b", "h100", 1, 256, 128, **values)
    small = plan_of("llama-7b", "h100", 1, 256, 128, **values, quantization="int4")
    both = plan_of("llama-7b", "h100", 1, 256, 128, **values, quantization="int4", gradient_checkpointing=True)
    eight = [
        f"{item.memory.peak / 1e9:.2f} GB, {'under' if item.memory.peak < 8e9 else 'over'} 8" for item in (small, both)
    ]
    return [
        "## 7B on one H100",
        "",
        "bfloat16, 4 questions of 256 tokens a pass, 4 passes a step, L 30, K 10. Planned, not measured; on such a",
        "device `python scripts/benchmark_gpu.py --json FILE` measures the same and compares. Memory is that of",
        "tensors: the CUDA context comes on top, half a gigabyte and more.",
        "",
        "| | planned |",
        "| --- | --- |",
        f"| tokens/s at {plan.utilisation:.0%} of 989.4 TFLOP/s | {plan.tokens_per_second:,.0f} |",
        f"| peak memory | {plan.memory.peak / 1e9:.2f} GB |",
        f"| peak memory with `--quantization int4` | {eight[0]} |",
        f"| and `--gradient-checkpointing true` | {eight[1]} |",
        "",
        f"```sh\n{COMMAND}\n```",
        "",
    ]


def document() -> str:
    """Return the whole document."""
    tokens, answers, count = TYPICAL["conversations"]
    lines = [
        "# What training takes, by scale",
        "",
        "Made by `python scripts/make_scale.py`. **Every figure here is planned, none is measured**: the formulas of",
        "`mm-adapter plan` with published rates of devices. `python scripts/check_plan.py` holds the formulas for",
        "parameters, memory, operations and bytes against real runs on a CPU; time rests on the assumed utilisation.",
        "",
        "## Assumed",
        "",
        f"- {UTILISATION['cuda']:.0%} of the published dense rate is reached, at every size of a pass; and no pass is",
        "  shorter than reading the weights takes. Rows with four questions a pass and fewer are optimistic.",
        f"- Alpaca's {count:,} instructions of {tokens} tokens in the mean, {answers} of them learned: lengths of a",
        "  smaller set in the same wording, with SmolLM2's tokenizer. Batch 64 over all devices, bfloat16, L 30, K 10,",
        "  at most 2,048 tokens a pass.",
        "- Peak memory is that of PyTorch's tensors. A gigabyte of every device is held back for all else.",
        "- Communication hides behind nothing. Eight devices share a machine's links; beyond that the network's rate",
        "  counts, and layers are sharded over all devices, not within machines.",
        "- Quantised weights are made dense in every pass, which takes reading and writing them once more.",
        "- Grouped queries under a mask keep their scores on CUDA: with a fused kernel, 70B and Llama 3 keep less.",
        "- Where a run does not fit as it is, the quickest of the fewest changed settings that make it fit is planned.",
        "",
        "| device | memory, GB | TFLOP/s, half | float32 | link, GB/s one way | network, GB/s | source |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {gpu.name} | {gpu.memory / 1e9:.0f} | {gpu.half_rate / 1e12:g} | {gpu.single_rate / 1e12:g} | "
            f"{gpu.link_rate / 1e9:g} | {gpu.network_rate / 1e9:g} | {gpu.source} |"
            for gpu in GPUS
        ),
        "",
        *papers_hour(),
        *one_device(),
        "## 1 to 64 devices",
        "",
    ]
    for name in ("llama-7b", "llama-13b", "llama-70b"):
        for device in ("a100", "h100"):
            lines += table(name, device)
    for device in ("a100", "h100"):
        lines += table("llama-70b", device, sharded=True)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "docs" / "scale.md")
    options = parser.parse_args()
    write_text(options.out, document())
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
