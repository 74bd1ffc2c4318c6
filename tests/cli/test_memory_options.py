"""Quantised, checkpointed and offloaded runs through the commands: they learn, and their adapters fit every base."""

import json

import pytest
from safetensors.torch import load_file

from mm_adapter.core.errors import UserError
from mm_adapter.training.config import TrainingConfig

LIBRARY = ("int8", "int4")


def needs_library(quantization):
    if quantization in LIBRARY:
        pytest.importorskip("torchao", reason="torchao is an extra: pip install 'mm-adapter[quantized]'")


def train_losses(folder):
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if "loss" in event]


@pytest.mark.parametrize("option", ["--gradient-checkpointing", "--offload"])
def test_where_and_when_is_computed_changes_no_byte(command, small, demo_folder, text_run, tmp_path, option):
    """Checkpointing and offloading end with the adapter of the ordinary run, byte for byte."""
    outcome = command("train", "--data", demo_folder, "--out", tmp_path / "run", *small, option, "yes")
    assert outcome.status == 0, outcome.err
    own, plain = (folder / "adapter_model.safetensors" for folder in (tmp_path / "run", text_run))
    assert own.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("quantization", LIBRARY)
def test_training_on_a_quantised_base(command, small, demo_folder, text_run, tmp_path, quantization):
    """The loss goes the way of the ordinary run; the adapter then serves the quantised and the plain base."""
    needs_library(quantization)
    run = tmp_path / "run"
    more = ["--quantization", quantization, "--gradient-checkpointing", "yes", "--offload", "yes"]
    outcome = command("train", "--data", demo_folder, "--out", run, *small, *more)
    assert outcome.status == 0, outcome.err
    # All parameters are told, whatever form they have.
    plain = 258 * 48 + 48 + 4 * (2 * 48 + 2 * 48 * 48 + 2 * 16 * 48 + 3 * 80 * 48)
    assert f"{plain:,} parameters frozen, 300 trained" in outcome.err
    for own, expected in zip(train_losses(run), train_losses(text_run), strict=True):
        assert own == pytest.approx(expected, rel=0.03)
    described = [json.loads((folder / "adapter_config.json").read_text()) for folder in (run, text_run)]
    assert described[0]["llama"]["fingerprint"] == described[1]["llama"]["fingerprint"]
    for form in ("none", quantization):
        asked = ["--question", "Which is red?", "--choices", "a cherry", "the sky", "--json"]
        outcome = command("answer", "--adapter", run, "--quantization", form, *asked)
        assert outcome.status == 0, outcome.err
        assert sum(choice["probability"] for choice in json.loads(outcome.out)["choices"]) == pytest.approx(1)


def test_low_rank_updates_on_offloaded_quantised_layers(command, small, demo_folder, tmp_path):
    """LoRA trains beside frozen matrices, and is loaded on a plain base."""
    pytest.importorskip("peft")
    needs_library("int8")
    run, plain = tmp_path / "run", tmp_path / "plain"
    for folder, more in ((run, ["--quantization", "int8", "--offload", "yes"]), (plain, [])):
        outcome = command("train", "--data", demo_folder, "--out", folder, *small, "--method", "lora", *more)
        assert outcome.status == 0, outcome.err
    assert train_losses(run) == pytest.approx(train_losses(plain), rel=0.03)
    assert any(
        tensor.abs().sum() > 0 for name, tensor in load_file(run / "adapter_model.safetensors").items() if "_B" in name
    )
    outcome = command("generate", "--adapter", run, "Hello", "--max-new-tokens", "4")
    assert outcome.status == 0, outcome.err


@pytest.mark.parametrize("name", ["evaluate", "generate", "chat"])
def test_other_commands_take_a_quantised_base(command, demo_folder, text_run, tmp_path, name, monkeypatch):
    """Evaluation and writing run on 8 bits."""
    needs_library("int8")
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
    own = {
        "evaluate": ["--data", demo_folder, "--out", tmp_path / "out", "--quiet"],
        "generate": ["Hello", "--max-new-tokens", "4"],
        "chat": ["--max-new-tokens", "4"],
    }
    outcome = command(name, "--adapter", text_run, "--quantization", "int8", *own[name])
    assert outcome.status == 0, outcome.err


def test_blocks_of_the_default_model(command):
    """The default model is a GGUF file: its own blocks answer as float32 does."""
    asked = [
        "--adapter",
        "none",
        "--question",
        "What is the capital of France?",
        "--choices",
        "Paris",
        "Rome",
        "--json",
    ]
    plain, blocks = (json.loads(command("answer", "--quantization", form, *asked).out) for form in ("none", "blocks"))
    assert plain["choice"] == blocks["choice"] == 0
    for own, expected in zip(blocks["choices"], plain["choices"], strict=True):
        assert own["probability"] == pytest.approx(expected["probability"], abs=1e-4)


def test_what_does_not_go_together_is_refused(refused, small, demo_folder, text_run, tmp_path):
    """Training frozen weights, sharding them, blocks where there are none, and mistyped forms."""
    arguments = ["train", "--data", demo_folder, "--out", tmp_path / "run", *small]
    assert "blocks is of GGUF files" in refused(*arguments, "--quantization", "blocks")
    assert "method full trains every weight, quantization" in refused(
        *arguments, "--method", "full", "--quantization", "int8"
    )
    assert "method full trains every weight, offload" in refused(*arguments, "--method", "full", "--offload", "yes")
    assert "did you mean 'int8'" in refused(*arguments, "--quantization", "int88")
    assert "There are: none, int8" in refused("answer", "--adapter", text_run, "--question", "?", "--quantization", "8")
    assert not (tmp_path / "run").exists()
    for values in ({"quantization": "int8"}, {"offload": True}):
        with pytest.raises(UserError, match="sharding full"):
            TrainingConfig(sharding="full", **values)
