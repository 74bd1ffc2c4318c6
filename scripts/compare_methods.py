"""Adapter, LoRA and full fine-tuning on the same data and steps: what each trains, costs and reaches.

    python scripts/compare_methods.py --data DIR --preset alpaca-smollm2 --out DIR [--epochs E] [--json FILE]

Every method is trained by ``mm-adapter train`` in a process of its own, so that peak memory is its own, in float32,
with the same seed, order and number of steps; each with a rate that suits it (``--lora-lr``, ``--full-lr``, for a
batch of 256). The validation split chooses the weights; the test split is measured once. As Tables 1 and 2 of
LLaMA-Adapter.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mm_adapter.core.files import write_json, write_text
from mm_adapter.training.config import load_config

METHODS = ("adapter", "lora", "full")
HEADER = ("method", "trained parameters", "checkpoint, MB", "steps", "minutes", "peak memory, MB", "test")


def train(method: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one method in a process of its own; return its row."""
    config = load_config(options.preset)
    rates = {"adapter": config.base_lr, "lora": options.lora_lr, "full": options.full_lr}
    command = ["train", "--preset", options.preset, "--data", options.data, "--out", str(folder), "--quiet"]
    command += ["--method", method, "--dtype", "float32", "--base-lr", str(rates[method])]
    command += ["--epochs", str(options.epochs or config.epochs), "--llama", options.llama or config.llama]
    if method != "adapter" or options.text_only:
        command += ["--vision", "none"]
    peak = run(command)
    result = json.loads((folder / "run.json").read_text())
    return {
        "method": method,
        "parameters": result["trained_parameters"],
        "megabytes": (folder / "adapter_model.safetensors").stat().st_size / 1e6,
        "steps": result["steps"],
        "seconds": result["seconds"],
        "peak_megabytes": peak,
        **measure(str(folder), options, folder / "test"),
    }


def measure(adapter: str, options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Measure the test split; the base model is put the same questions or requests."""
    config = load_config(options.preset)
    command = ["evaluate", "--adapter", adapter, "--data", options.data, "--split", "test"]
    command += ["--out", str(out), "--quiet"]
    if adapter == "none":
        command += ["--llama", options.llama or config.llama]
        command += (
            ["--prompt-template", config.prompt_template]
            if config.task == "conversations"
            else ["--template", config.template]
        )
    run(command)
    metrics = json.loads((out / "metrics.json").read_text())
    if "loss_per_token" in metrics:
        return {"test_loss": metrics["loss_per_token"]}
    return {"test_accuracy": metrics["official"]["acc_average"]}


def run(arguments: list[str]) -> float:
    """Run a subcommand; return its peak resident memory in MB."""
    process = subprocess.Popen([sys.executable, "-m", "mm_adapter", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"mm-adapter {' '.join(arguments[:1])} failed; its message stands above.")
    return usage.ru_maxrss * 1024 / 1e6


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(HEADER) + " |", "| --- " * len(HEADER) + "|"]
    for row in rows:
        tested = f"{row['test_accuracy']:.2f} %" if "test_accuracy" in row else f"loss {row['test_loss']:.4f}"
        if row["method"] == "base":
            lines.append(f"| base | 0 | | | | | {tested} |")
            continue
        lines.append(
            f"| {row['method']} | {row['parameters']:,} | {row['megabytes']:.1f} | {row['steps']} | "
            f"{row['seconds'] / 60:.1f} | {row['peak_megabytes']:.0f} | {tested} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Train and measure every method, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="as for mm-adapter train")
    parser.add_argument("--preset", default="alpaca-smollm2", help="preset name or TOML file")
    parser.add_argument("--llama", help="base model; the preset's by default")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the runs and the table")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="which to train")
    parser.add_argument("--epochs", type=float, help="passes over the data; the preset's by default")
    parser.add_argument("--lora-lr", type=float, default=0.064, help="base rate of LoRA: 2e-3 at batch 8")
    parser.add_argument("--full-lr", type=float, default=0.00096, help="base rate of full: 3e-5 at batch 8")
    parser.add_argument("--text-only", action="store_true", help="the adapter sees no pictures either")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    rows = [{"method": "base", **measure("none", options, options.out / "base")}]
    for method in options.methods:
        rows.append(train(method, options, options.out / method))
        print(to_markdown(rows[-1:]).splitlines()[-1], file=sys.stderr)
    write_text(options.out / "methods.md", to_markdown(rows))
    if options.json is not None:
        write_json(options.json, {"rows": rows})
    print(to_markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
