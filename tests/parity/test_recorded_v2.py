"""The original multimodal V2 model's recorded outputs, checked by the script as a person runs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from official_v2_parity import official_v2_errors
from safetensors.torch import load_file, save_file

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_official_parity.py"


def test_the_original_is_met(shared: Path) -> None:
    """Tower tokens, visual query, logits with and without a picture within 1e-5, written tokens equal."""
    command = [sys.executable, str(SCRIPT), str(shared / "parity" / "official_v2")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    kinds = ("clip_tokens", "visual_query", "logits", "logits_zero_image", "greedy")
    assert all(f"{prefix}.{kind}" in result.stdout for prefix in ("bias", "lora_bias") for kind in kinds)


@pytest.mark.parametrize("kind", ["clip_tokens", "logits", "logits_zero_image", "greedy"])
def test_every_recorded_tensor_counts(shared: Path, tmp_path: Path, kind: str) -> None:
    """A difference in any recorded tensor is found, and is the only one."""
    folder = tmp_path / "official"
    shutil.copytree(shared / "parity" / "official_v2", folder)
    tensors = load_file(folder / "expected.safetensors")
    tensors[f"bias.{kind}"].view(-1)[-1] += 1
    save_file(tensors, folder / "expected.safetensors")
    errors = official_v2_errors(folder)
    assert errors.pop(f"bias.{kind}") == pytest.approx(1, rel=0.05)
    assert max(errors.values()) <= 1e-5
