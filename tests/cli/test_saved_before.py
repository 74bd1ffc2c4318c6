"""Adapters and run folders that version 0.1 wrote (``tests/saved``) load, answer and resume with the same numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

SAVED = Path(__file__).resolve().parent.parent / "saved"
# What the stopped run was begun with, by the names of today: then --average-decay, --clip, --evaluations 2,
# --smoothing, --gate-rate, --keep-states and --base-rate.
STOPPED = (
    "--vision none --layers 2 --prompt-length 3 --batch-size 8 --max-length 700 --base-lr 0.5 --epochs 2 "
    "--warmup-epochs 0.5 --ema-decay 0.9 --max-grad-norm 0.5 --eval-every 0.5 --label-smoothing 0.1 --gate-lr-scale 2 "
    "--max-states 1"
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("run", ["text", "pictures", "lora"])
def test_saved_adapter_answers_as_it_did(
    run: str, command: Callable[..., Any], demo_folder: Path, tmp_path: Path
) -> None:
    """A letter, a picture and a LoRA adapter give every option the score that it had, and choose the same ones."""
    where = [
        "--adapter",
        SAVED / run,
        "--llama",
        SAVED / "llama",
        "--data",
        demo_folder,
        "--features",
        tmp_path / "features",
    ]
    assert command("evaluate", *where, "--out", tmp_path / "out", "--quiet").status == 0
    found, expected = lines(tmp_path / "out" / "predictions.jsonl"), lines(SAVED / run / "expected_predictions.jsonl")
    assert [(answer["pid"], answer["choice"]) for answer in found] == [(a["pid"], a["choice"]) for a in expected]
    for answer, before in zip(found, expected, strict=True):
        assert answer["scores"] == pytest.approx(before["scores"], rel=1e-5)


def test_saved_conversation_adapter_measures_as_it_did(command: Callable[..., Any], tmp_path: Path) -> None:
    """Its requests are put in the template that it was taught, which its file calls by the old name."""
    instructions = shutil.copy(SAVED / "conversations" / "instructions.json", tmp_path / "test.json")
    where = ["--adapter", SAVED / "conversations", "--llama", SAVED / "llama", "--data", Path(instructions).parent]
    assert command("evaluate", *where, "--out", tmp_path / "out", "--quiet").status == 0
    found = lines(tmp_path / "out" / "responses.jsonl")
    expected = lines(SAVED / "conversations" / "expected_responses.jsonl")
    assert [answer["response_tokens"] for answer in found] == [answer["response_tokens"] for answer in expected]
    losses = [answer["loss_per_token"] for answer in expected]
    assert [answer["loss_per_token"] for answer in found] == pytest.approx(losses, rel=1e-5)


def test_saved_run_is_gone_on_with(
    command: Callable[..., Any], demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that version 0.1 was stopped in ends in the adapter that it would have had, by the options of today."""
    shutil.copytree(SAVED / "stopped", tmp_path / "run")
    shutil.copytree(SAVED / "llama", tmp_path / "saved" / "llama")
    monkeypatch.chdir(tmp_path)  # its settings name the model by a relative path
    where = ["--llama", "saved/llama", "--data", demo_folder, "--out", tmp_path / "run", "--resume", "--quiet"]
    done = command("train", *where, *STOPPED.split())
    assert done.status == 0, done.err
    assert "going on after step 6" in done.err
    expected, result = (json.loads((tmp_path / "run" / name).read_text()) for name in ("expected_run.json", "run.json"))
    assert result["steps"] == expected["steps"]
    assert result["best_val_accuracy"] == expected["best_val_accuracy"]
    assert result["best_val_loss"] == pytest.approx(expected["best_val_loss"], rel=1e-5)
    found = load_file(tmp_path / "run" / "adapter_model.safetensors")
    for name, tensor in load_file(SAVED / "stopped" / "expected_adapter.safetensors").items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_saved_run_is_held_to_its_settings(
    refused: Callable[..., str], demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed with another value, it is refused by the name of today."""
    shutil.copytree(SAVED / "stopped", tmp_path / "run")
    shutil.copytree(SAVED / "llama", tmp_path / "saved" / "llama")
    monkeypatch.chdir(tmp_path)
    where = ["--llama", "saved/llama", "--data", demo_folder, "--out", tmp_path / "run", "--resume", "--quiet"]
    other = STOPPED.replace("--label-smoothing 0.1", "--label-smoothing 0.2").split()
    assert "label_smoothing: 0.1, now 0.2" in refused("train", *where, *other)
