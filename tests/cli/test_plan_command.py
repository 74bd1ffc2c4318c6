"""The plan command: figures for people and programs, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mm_adapter.llama.checkpoints.load import load_llama


@pytest.fixture
def planned(command: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return a function that plans for a program."""

    def run(*arguments: Any) -> dict[str, Any]:
        outcome = command("plan", *arguments, "--json")
        assert outcome.status == 0, outcome
        return json.loads(outcome.out)

    return run


def test_the_papers_run(planned: Callable[..., dict[str, Any]]) -> None:
    """The published settings by their preset, on the devices that the command names."""
    found = planned("--preset", "alpaca-7b", "--ranks", 8, "--device", "a100")
    assert (found["trained_parameters"], found["frozen_parameters"]) == (1_229_760, 6_738_415_616)
    assert found["fits"]
    assert found["communication"]["reduced"] == 4 * 1_229_760
    assert found["questions_per_pass"] == 8
    pictured = planned("--preset", "paper-7b", "--device", "h100")
    # ViT-L/14: four stages of 1024 and an embedding of 768.
    width = 4 * 1024 + 768
    projection = 2 * width + width * 128 + 128 + 128 * 4096 + 4096
    assert pictured["trained_parameters"] == 1_229_760 + projection
    assert pictured["memory"]["image tower"] == pytest.approx(4 * 304e6, rel=0.01)


def test_a_model_on_disk(command: Callable[..., Any], planned: Callable[..., Any], tiny_folder: Path) -> None:
    """A folder's shape is read from its configuration: it need not hold weights."""
    options = ["--llama", tiny_folder, "--vision", "none", "--layers", 2, "--batch", 4]
    found = planned(*options)
    loaded = load_llama(str(tiny_folder)).model
    assert found["frozen_parameters"] == sum(weight.numel() for weight in loaded.parameters())
    assert found["device"] == "cpu"
    text = command("plan", *options).out
    assert f"{found['trained_parameters']:,} trained" in text
    assert "largest" in text
    (copy := tiny_folder.parent / "only-config").mkdir()
    (copy / "config.json").write_text((tiny_folder / "config.json").read_text())
    assert planned("--llama", copy, *options[2:])["memory"] == found["memory"]


def test_blocks_of_a_file(planned: Callable[..., dict[str, Any]]) -> None:
    """A GGUF file's own blocks are counted as they lie in it: Q4_1 has five bits a weight."""
    found = planned("--vision", "none", "--quantization", "blocks", "--dtype", "bfloat16")
    assert found["memory"]["weights"] / found["frozen_parameters"] == pytest.approx(5 / 8, abs=0.08)


def test_what_does_not_fit(command: Callable[..., Any]) -> None:
    """By how much, and with which settings it would."""
    text = command("plan", "--llama", "llama-70b", "--vision", "none", "--device", "a100", "--dtype", "bfloat16").out
    assert "does not fit" in text
    assert "--quantization int4" in text
    hopeless = ["--llama", "llama-70b", "--vision", "none", "--device", "cpu", "--memory", 3]
    assert "no setting makes it fit" in command("plan", *hopeless).out


def test_measured_beside_planned(planned: Callable[..., dict[str, Any]], tiny_folder: Path) -> None:
    """A few real steps: the same parameters, the same operations; so small a run has no memory worth comparing."""
    options = ["--llama", tiny_folder, "--vision", "none", "--layers", 2, "--batch", 4, "--device", "cpu", "--measure"]
    rows = planned(*options)["measured"]
    for name in ("trained parameters", "frozen parameters"):
        assert rows[name]["planned"] == rows[name]["measured"]
    assert rows["GFLOP a pass"]["planned"] == pytest.approx(rows["GFLOP a pass"]["measured"], rel=1e-3)
    assert rows["seconds a step"]["measured"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--llama", "llama-7c"], "did you mean 'llama-7b'"),
        (["--device", "h10"], "did you mean 'h100'"),
        (["--device", "cuda"], "does not say which one"),
        (["--utilisation", "1.5"], "--utilisation is 1.5"),
        (["--memory", "-3"], "--memory is -3"),
        (["--ranks", "0"], "--ranks is 0; it must be at least 1"),
        (["--ranks", "64", "--batch", "8"], "--ranks 64 is more than the 8 questions"),
        (["--layers", "99"], "layers is 99, the model has 30"),
        (["--question-tokens", "600"], "more than --max-length 512"),
        (["--question-tokens", "20", "--answer-tokens", "20"], "must be less than the 20 tokens"),
        (["--vision", "timm:resnet50"], "--image-features"),
        (["--vision", "ViT-Z/none"], "knows no 'ViT-Z'"),
        (["--method", "full", "--vision", "none", "--quantization", "int8"], "method full trains every weight"),
        (["--vision", "none", "--sharding", "full"], "--ranks greater than 1"),
        (["--vision", "none", "--ranks", "2", "--measure"], "runs on one device"),
        (["--vision", "none", "--image-features", "5"], "leave it out"),
        (["--quantisation", "int8"], "did you mean '--quantization'"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: list[str], message: str) -> None:
    """One message that says what to change."""
    assert message in refused("plan", *options)
