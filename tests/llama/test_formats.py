"""The script that holds every format against transformers: a few columns of its table, and its verdict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import check_formats
import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "check_formats.py"
FORMATS = [".bin", "safetensors x3", "Meta x8", "GGUF F32", "GGUF Q4_K"]


def run(path: Path, *options: str) -> tuple[int, dict[str, dict[str, float]]]:
    command = [sys.executable, str(SCRIPT), "--formats", *FORMATS, "--json", str(path), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    status = subprocess.run(command, capture_output=True, text=True, env=environment).returncode
    return status, {entry["name"]: entry for entry in json.loads(path.read_text())["bars"]}


def test_formats_equal_transformers(tmp_path: Path) -> None:
    """Shards, quantised blocks and stored frequency factors give transformers' logits and words."""
    status, bars = run(tmp_path / "bars.json", "--shapes", "Llama 3.2", "bias")
    assert status == 0, bars
    assert len(bars) == 2 * len(FORMATS) - 1 + 1, "Meta's layout has no bias; the texts are one more bar"
    assert all(entry["value"] <= 1e-5 for entry in bars.values())


def test_the_script_fails_beyond_its_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that is missed is written as missed, and the status says so."""
    path = tmp_path / "bars.json"
    chosen = ["--formats", "GGUF F32", "--shapes", "Llama 3.1"]
    monkeypatch.setattr("sys.argv", ["check", *chosen, "--tolerance", "1e-12", "--json", str(path)])
    assert check_formats.main() == 1
    bars = {entry["name"]: entry for entry in json.loads(path.read_text())["bars"]}
    assert not bars["GGUF F32, Llama 3.1"]["holds"]
