"""``mm-adapter train``: a complete run folder, the same each time, and a way on after Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from safetensors.torch import load_file

from mm_adapter.training.state import state_files
from mm_adapter.training.task import QuestionTask

PROGRAM = [sys.executable, "-m", "mm_adapter"]


def test_run_folder_is_complete(text_run, tiny_folder):
    """Adapter, settings, result, metrics and curve are there; the state of the way is gone."""
    files = {path.name for path in text_run.iterdir()}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    assert files == adapter | {"config.json", "run.json", "metrics.jsonl", "curve.png"}
    run = json.loads((text_run / "run.json").read_text())
    assert (run["examples"], run["skipped"], run["steps"]) == (46, {}, 6)
    assert run["trained_parameters"] == 2 * 3 * 48 + 2 * 6
    described = json.loads((text_run / "adapter_config.json").read_text())
    assert described["llama"]["name"] == str(tiny_folder)
    assert described["vision"] is None
    with Image.open(text_run / "curve.png") as curve:
        curve.verify()


def test_run_with_pictures_names_the_tower(picture_run, store):
    """A run on the default tower has a projection, and says which tower with which weights it needs."""
    described = json.loads((picture_run / "adapter_config.json").read_text())
    assert described["vision"]["tower"] == "efficientnet-lite0"
    assert len(described["vision"]["fingerprint"]) == 64
    assert any(name.startswith("projection.") for name in load_file(picture_run / "adapter_model.safetensors"))
    assert any(path.suffix == ".safetensors" for path in store.iterdir())


def test_same_seed_same_bytes(command, small, demo_folder, text_run, tmp_path):
    """The same command again gives the same adapter, byte for byte."""
    outcome = command("train", "--data", demo_folder, "--out", tmp_path / "again", *small)
    assert outcome.status == 0
    assert "best validation accuracy" in outcome.out
    assert "parameters frozen, 300 trained" in outcome.err
    assert "base_lr 0.5 x batch_size 8 / 256" in outcome.err
    again, first = (folder / "adapter_model.safetensors" for folder in (tmp_path / "again", text_run))
    assert again.read_bytes() == first.read_bytes()


def test_out_that_holds_a_run_is_refused(refused, small, demo_folder, text_run):
    """A trained adapter is never overwritten."""
    before = {path.name: path.read_bytes() for path in text_run.iterdir()}
    assert "holds a run already" in refused("train", "--data", demo_folder, "--out", text_run, *small)
    assert before == {path.name: path.read_bytes() for path in text_run.iterdir()}


def test_interrupt_says_how_to_go_on(command, small, demo_folder, text_run, tmp_path, monkeypatch):
    """Ctrl-C: exit status 130 and the way on; --resume then ends with the adapter of the undisturbed run."""
    real = QuestionTask.losses
    calls = []

    def interrupting(self, indices, cache):
        calls.append(indices)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return real(self, indices, cache)

    monkeypatch.setattr(QuestionTask, "losses", interrupting)
    arguments = ["train", "--data", demo_folder, "--out", tmp_path / "run", *small]
    outcome = command(*arguments)
    assert outcome.status == 130
    assert "Go on with the same command and --resume." in outcome.err
    assert state_files(tmp_path / "run")
    assert command(*arguments).status == 2
    assert command(*arguments, "--resume").status == 0
    resumed, whole = (folder / "adapter_model.safetensors" for folder in (tmp_path / "run", text_run))
    assert resumed.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "run" / "states").exists()


def test_resume_is_refused_with_other_settings_data_or_nothing(
    refused, command, small, demo_folder, broken_data, tmp_path, monkeypatch
):
    """Going on means the same settings and questions; without a state there is nothing to go on from."""
    arguments = ["--out", tmp_path / "run", *small]
    assert "start without --resume" in refused("train", "--data", demo_folder, *arguments, "--resume")
    assert not (tmp_path / "run").exists()
    real = QuestionTask.losses
    monkeypatch.setattr(QuestionTask, "losses", lambda *a: [signal.raise_signal(signal.SIGINT), real(*a)][1])
    assert command("train", "--data", demo_folder, *arguments).status == 130
    monkeypatch.setattr(QuestionTask, "losses", real)
    states = [path.read_bytes() for path in state_files(tmp_path / "run")]
    assert states
    message = refused_last(command("train", "--data", demo_folder, *arguments, "--resume", "--max-grad-norm", "0.5"))
    assert "other settings (max_grad_norm: 1.0, now 0.5)" in message
    broken_data.change("pid_splits.json", lambda splits: splits["train"].reverse())
    message = refused_last(command("train", "--data", broken_data.folder, *arguments, "--resume"))
    assert "questions are not those it was begun with" in message
    assert [path.read_bytes() for path in state_files(tmp_path / "run")] == states


def refused_last(outcome):
    assert outcome.status == 2
    assert "Traceback" not in outcome.err
    return outcome.err.splitlines()[-1]


def test_real_ctrl_c_and_resume(tiny_folder, demo_folder, tmp_path):
    """A signal to the real program, wherever it meets it: 130, no traceback, and resumed the same bytes."""
    options = ["--llama", tiny_folder, "--vision", "none", "--layers", "2", "--data", demo_folder, "--epochs", "8"]
    options = [str(option) for option in [*options, "--ema-decay", "0.9", "--batch-size", "8", "--quiet"]]

    def start(name, *more):
        arguments = [*PROGRAM, "train", *options, "--out", str(tmp_path / name), *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    cut = start("cut")
    metrics = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not metrics.is_file() or metrics.read_text().count("\n") < 12):
        time.sleep(0.02)
    cut.send_signal(signal.SIGINT)
    _, errors = cut.communicate(timeout=60)
    assert cut.returncode == 130, errors
    assert "Traceback" not in errors
    assert "--resume" in errors
    for process in (start("cut", "--resume"), start("whole")):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one, other = (tmp_path / name / "adapter_model.safetensors" for name in ("cut", "whole"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--template", "QCM-A", "--answer-format", "letter", "--ranking", "sum", "--explanation", "solution"],
        ["--attention", "random-init", "--cache-states", "false", "--max-length", "1000"],
    ],
)
def test_other_ways_of_asking(command, small, demo_folder, tmp_path, options):
    """Letters with explanations, and the ablation, through train and evaluate: the adapter says how it is asked."""
    out = tmp_path / "run"
    assert command("train", "--data", demo_folder, "--out", out, *small, "--epochs", "0.2", *options).status == 0
    described = json.loads((out / "adapter_config.json").read_text())
    assert described["task"]["answer_format"] in [*options, "text"]
    outcome = command("evaluate", "--adapter", out, "--data", demo_folder, "--out", tmp_path / "test", "--quiet")
    assert outcome.status == 0, outcome.err


def test_own_preset_file_and_options(command, small, demo_folder, tmp_path):
    """A TOML file of the user's, options on top, all of it in config.json; progress is shown."""
    preset = tmp_path / "mine.toml"
    preset.write_text("prompt_length = 7\nbottleneck = 9\n")
    arguments = ["--data", demo_folder, "--out", tmp_path / "run", *small, "--epochs", "0.1"]
    outcome = command("train", "--preset", preset, *(word for word in arguments if word != "--quiet"))
    assert outcome.status == 0
    assert "epoch 0.17: validation" in outcome.out + outcome.err
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (settings["bottleneck"], settings["prompt_length"], settings["epochs"]) == (9, 3, 0.1)


def test_auto_does_not_replace_an_adapter_from_elsewhere(refused, tiny_folder, demo_folder, tmp_path):
    """`--resume auto` begins where there is no run; a folder with an imported adapter is no such place."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "adapter_config.json").write_text("{}")
    (out / "adapter_model.safetensors").write_bytes(b"precious")
    where = ["--llama", tiny_folder, "--vision", "none", "--data", demo_folder, "--out", out, "--resume", "auto"]
    assert "was not trained here" in refused("train", *where, "--quiet")
    assert (out / "adapter_model.safetensors").read_bytes() == b"precious"
