"""Time, devices, towers, and the document that is made of plans."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from test_fitting import plan_of

from mm_adapter.planning.devices import DEVICES, find_device, measured_rate
from mm_adapter.planning.image_costs import tower_shape
from mm_adapter.planning.workload import make_workload
from mm_adapter.training.config import TrainingConfig
from mm_adapter.vision import ImageTower, VisionConfig

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_papers_hour() -> None:
    """52K examples padded to 512 tokens, five epochs on 8 A100: an hour, within a tenth, at the assumed utilisation.

    Computed here from the parameters alone: 2 operations a token there, 30 of 32 layers' worth back.
    """
    config = TrainingConfig(task="conversations", vision="none", layers=30, batch_size=64, epochs=5.0, dtype="bfloat16")
    load = make_workload(config, 8, question_tokens=512, answer_tokens=511)
    assert (load.rank_questions, load.epoch_questions) == (8, 52002)
    plan = plan_of(ranks=8, tokens=512, task="conversations", epochs=5.0, dtype="bfloat16")
    by_hand = 5 * 52002 * 512 * 2 * 6.6e9 * (1 + 30 / 32) / (8 * 312e12 * 0.4)
    assert plan.run_seconds == pytest.approx(by_hand, rel=0.05)
    assert plan.run_seconds == pytest.approx(3600, rel=0.1)


def test_passes_and_steps() -> None:
    """A step's questions over ranks and passes; an epoch's over steps; the last pass need not be full."""
    config = TrainingConfig(batch_size=64, token_budget=1000, vision="none")
    load = make_workload(config, ranks=4, questions=1000, question_tokens=200)
    assert (load.questions, load.rank_questions, load.passes, load.steps) == (5, 16, 4, 16)


def test_kept_states_shorten_later_epochs() -> None:
    """With half of the layers below the adapter, epochs after the first are shorter, as is the run."""
    plan = plan_of(layers=16, epochs=4.0, cache_states=True)
    assert plan.later_epoch_seconds < 0.8 * plan.epoch_seconds
    assert plan.run_seconds == pytest.approx(plan.epoch_seconds + 3 * plan.later_epoch_seconds)


def test_weights_cost_time_where_they_are_far_or_packed() -> None:
    """Offloading is bound by the host, quantisation adds unpacking, and no pass is shorter than reading the weights."""
    settings = {"dtype": "bfloat16", "tokens": 16, "batch_size": 1}
    small = plan_of("llama-7b", "h100", **settings)
    assert small.step_seconds() == pytest.approx(small.reading_seconds)
    assert plan_of("llama-7b", "h100", offload=True, **settings).step_seconds() > 10 * small.step_seconds()
    assert plan_of("llama-7b", "h100", quantization="int4", **settings).step_seconds() > small.step_seconds()


def test_devices_name_their_sources() -> None:
    """Every published figure says where it stands; this processor's is measured."""
    assert all("NVIDIA" in device.source for device in DEVICES.values())
    assert find_device("cpu").rate("float32") > 1e8
    assert measured_rate(torch.float32, 64, 64) > 1e6
    # Without matrix units for it, bfloat16 is no quicker than float32.
    assert DEVICES["v100"].rate("bfloat16") == DEVICES["v100"].rate("float32") < DEVICES["v100"].rate("float16")


@pytest.mark.parametrize("depths", [0, 3])
def test_the_default_tower_is_known_exactly(depths: int) -> None:
    """Its features' width and its parameters, against the tower itself."""
    config = TrainingConfig(depths=depths, views="own,2x2")
    real = ImageTower(VisionConfig("efficientnet-lite0", depths, ("own", "2x2")))
    found = tower_shape(config)
    assert found.features == real.feature_size
    assert found.parameters == sum(weight.numel() for weight in real.model.parameters())


def test_the_document_is_that_of_its_script(tmp_path: Path) -> None:
    """docs/scale.md holds what the formulas of now say."""
    out = tmp_path / "scale.md"
    subprocess.run([sys.executable, ROOT / "scripts" / "make_scale.py", "--out", out], check=True, cwd=ROOT)
    assert out.read_text() == (ROOT / "docs" / "scale.md").read_text()


def test_the_benchmark_against_peft_runs_at_a_small_size(tmp_path: Path) -> None:
    """Both contenders take the step, and the bars are those of the table."""
    pytest.importorskip("peft", reason="peft is an extra: pip install 'mm-adapter[compare]'")
    script, out = ROOT / "scripts" / "benchmark_gpu_peft.py", tmp_path / "bars.json"
    command = [sys.executable, script, "--shape", "small", "--device", "cpu", "--repeats", "1", "--json", out]
    done = subprocess.run([*command, "--contenders", "ours", "PEFT"], check=True, stdout=subprocess.PIPE, text=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["ours", "PEFT"]
    assert len(json.loads(out.read_text())["bars"]) == 2


def test_the_benchmark_runs_at_a_small_size(tmp_path: Path) -> None:
    """Its four bars are there; at this size, on a processor, none of them says anything."""
    script, out = ROOT / "scripts" / "benchmark_gpu.py", tmp_path / "bars.json"
    command = [sys.executable, script, "--shape", "small", "--device", "cpu", "--steps", "2"]
    run = partial(subprocess.run, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = run([*command, "--offload", "--json", out], check=True)
    assert "tokens/s" in done.stdout
    assert "offloaded" in done.stdout
    assert out.read_text().count('"name"') == 4
    refused = run([*command, "--quantization", "blocks"])
    assert refused.returncode == 2
    assert "blocks are those of a GGUF file" in refused.stderr
    pytest.importorskip("torchao", reason="torchao is an extra: pip install 'mm-adapter[quantized]'")
    assert "quantization int4" in run([*command, "--quantization", "int4"], check=True).stdout
