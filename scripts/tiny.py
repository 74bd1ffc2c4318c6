"""A random LLaMA of a few kilobytes, generated questions, and runs on them: what the checks of training work with."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from mm_adapter.data.demo import write_demo

SHAPE = {
    "model_type": "llama",
    "vocab_size": 258,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def write_llama(folder: Path) -> Path:
    """Write a seeded random LLaMA of four layers, one token a byte, as a Hugging Face folder."""
    folder.mkdir(parents=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{letter: index + 2 for index, letter in enumerate(letters)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(SHAPE))
    matrices = {
        "self_attn.q_proj": (48, 48),
        "self_attn.k_proj": (16, 48),
        "self_attn.v_proj": (16, 48),
        "self_attn.o_proj": (48, 48),
        "mlp.gate_proj": (80, 48),
        "mlp.up_proj": (80, 48),
        "mlp.down_proj": (48, 80),
    }
    generator = torch.Generator().manual_seed(1)
    tensors = {"model.embed_tokens.weight": torch.randn(258, 48, generator=generator) * 0.2}
    tensors["model.norm.weight"] = torch.ones(48)
    for layer in range(SHAPE["num_hidden_layers"]):  # type: ignore[call-overload]
        place = f"model.layers.{layer}"
        for name, shape in matrices.items():
            tensors[f"{place}.{name}.weight"] = torch.randn(shape, generator=generator) * 0.2
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{place}.{name}.weight"] = torch.ones(48)
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_questions(folder: Path, size: int) -> Path:
    """Write generated questions, some with pictures, in ScienceQA's layout."""
    write_demo(folder, size=size)
    return folder


PICTURES = {
    "none": ["--vision", "none"],
    "shared": [],
    "tiles": ["--image-prompts", "tiles", "--views", "1x1,2x2"],
    "query": ["--image-prompts", "query", "--query-width", "16", "--query-blocks", "1"],
}
"""How a small training sees pictures -> its options."""


def training_options(folder: Path, *more: str, pictures: str = "none") -> list[str]:
    """Write model and questions into ``folder``; return the options of a training on them."""
    llama, data = write_llama(folder / "llama"), write_questions(folder / "data", 75)
    options = ["--llama", str(llama), "--data", str(data), "--quiet", "--layers", "2", *PICTURES[pictures]]
    options += ["--features", str(folder / "features")]
    options += ["--prompt-length", "3", "--batch-size", "6", "--warmup-epochs", "0.5", "--base-lr", "0.3"]
    return [*options, "--max-length", "700", *more]


def start(
    arguments: Sequence[str], ranks: int = 1, launcher: Sequence[str] = (), seconds: int = 300, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start ``mm-adapter`` in a session of its own: alone, or under ``torchrun`` with one thread a rank.

    Args:
        arguments: of the command.
        ranks: processes; 1 without ``launcher`` needs no torchrun.
        launcher: further options of torchrun.
        seconds: after which gloo gives up on a silent peer.
        log: file for both streams; thrown away by default.
    """
    program = ["-m", "mm_adapter", *arguments]
    if ranks > 1 or launcher:
        alone = [] if any(option.startswith("--rdzv") for option in launcher) else ["--standalone"]
        program = ["-m", "torch.distributed.run", *alone, f"--nproc-per-node={ranks}", *launcher, *program]
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo"}
    # A node that comes back would wait in vain: sharing its store, torchrun tells the address in the first round alone.
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    output = subprocess.DEVNULL if log is None else open(log, "ab")  # noqa: SIM115 - the child's from here on
    return subprocess.Popen(
        [sys.executable, *program], env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it started, workers in sessions of their own among them."""
    for child in descendants(process.pid):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.kill()
    process.wait()


def descendants(parent: int) -> list[int]:
    """Return the ids of the processes that a process started, and of those that they started."""
    found: list[int] = []
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        pid, owner = map(int, line.split())
        children.setdefault(owner, []).append(pid)
    waiting = [parent]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def losses(folder: Path) -> list[float]:
    """Return the training losses of a run, step by step."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if "loss" in event]


def adapter(folder: Path) -> dict[str, Tensor]:
    """Return the adapter that a run kept."""
    return load_file(folder / "adapter_model.safetensors")
