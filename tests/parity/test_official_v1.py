"""The original V1 training model's recorded logits, loss and gradients, checked by the script as a person runs it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import check_official_parity
import pytest
import torch
from official_parity import official_errors
from safetensors.torch import load_file, save_file
from torch import Tensor

from mm_adapter.core.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_official_parity.py"


def check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def copy(shared: Path, tmp_path: Path) -> Path:
    """The recorded outputs, where they may be changed."""
    folder = tmp_path / "official"
    folder.mkdir()
    for path in (shared / "parity" / "official_v1").iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def change_expected(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "expected.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "expected.safetensors")


def test_the_original_is_met(shared: Path, tmp_path: Path) -> None:
    """Logits, loss and every gradient within 1e-5; errors are listed with the largest last."""
    result = check(shared / "parity" / "official_v1", "--json", str(tmp_path / "bars.json"))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "agrees" in lines[-1]
    errors = [float(line.split()[0]) for line in lines[:-1]]
    assert errors == sorted(errors)
    assert errors[-1] <= 1e-5
    names = {line.split()[1] for line in lines[:-1]}
    assert {"logits", "loss", "logits_gate_zero", "grad.adapter_query.weight"} < names
    assert sum("attention.gate" in name for name in names) == 3
    bars = json.loads((tmp_path / "bars.json").read_text())["bars"]
    assert {entry["name"] for entry in bars} == names
    assert all(entry["holds"] for entry in bars)


def test_a_difference_is_found(copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One value off by 1e-3 fails the check and stands last."""

    def off(tensors: dict[str, Tensor]) -> None:
        tensors["logits"].view(-1)[17] += 1e-3

    change_expected(copy, off)
    monkeypatch.setattr("sys.argv", ["check", str(copy)])
    assert check_official_parity.main() == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[-2].endswith("  logits")
    assert "DIFFERS" in lines[-1]
    assert printed.err == ""


def test_not_a_number_is_a_difference(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that cannot be compared does not agree."""

    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors["grad.layers.3.attention.gate"].view(-1)[0] = float("nan")

    change_expected(copy, spoil)
    monkeypatch.setattr("sys.argv", ["check", str(copy)])
    assert check_official_parity.main() == 1


def test_a_missing_file_is_one_line(copy: Path) -> None:
    """What is not there is named, without a traceback."""
    (copy / "adapter.pth").unlink()
    result = check(copy)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert "adapter.pth" in result.stderr


@pytest.mark.parametrize(
    "name",
    ["logits", "loss", "logits_gate_zero", "grad.adapter_query.weight", "grad.layers.3.attention.gate"],
)
def test_every_recorded_tensor_counts(copy: Path, name: str) -> None:
    """A difference in any recorded tensor is the largest error, and the only one."""

    def off(tensors: dict[str, Tensor]) -> None:
        tensors[name].view(-1)[-1] += 1e-3

    change_expected(copy, off)
    errors = official_errors(copy)
    assert errors.pop(name) == pytest.approx(1e-3, rel=0.05)
    assert max(errors.values()) <= 1e-5


def drop_logits(tensors: dict[str, Tensor]) -> None:
    del tensors["logits"]


def add_unknown(tensors: dict[str, Tensor]) -> None:
    tensors["grad.visual_query.weight"] = torch.ones(2)


def without_gates(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if name.startswith("grad.layers")]:
        del tensors[name]


def other_shape(tensors: dict[str, Tensor]) -> None:
    tensors["logits"] = torch.zeros(1, 2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_logits, "logits is not recorded"),
        (add_unknown, r"grad\.visual_query\.weight was recorded but is not computed"),
        (without_gates, "which 0 layers .* cannot share"),
        (other_shape, "logits was recorded with shape"),
    ],
)
def test_folders_of_another_kind(copy: Path, change: Callable[[dict[str, Tensor]], None], message: str) -> None:
    """Recorded outputs that lack something, or hold what is not computed here, are refused by name."""
    change_expected(copy, change)
    with pytest.raises(UserError, match=message):
        official_errors(copy)


@pytest.mark.parametrize("name", ["expected.safetensors", "consolidated.00.pth", "params.json", "adapter.pth"])
def test_damaged_and_missing_files(copy: Path, name: str) -> None:
    """Each file of the folder is missed, and refused when cut, by name."""
    path = copy / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=name):
        official_errors(copy)
    path.unlink()
    with pytest.raises(UserError):
        official_errors(copy)
