"""A run told to other programs: each is read back by its own reader, and the training is the same with and without."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mm_adapter.core.errors import UserError
from mm_adapter.training import checked, trackers
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.trackers import TensorBoard, gate_openings

needs = {
    name: pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed") for name in checked.TRACKERS
}
ALL = [pytest.param(name, marks=needs[name]) for name in checked.TRACKERS]


def read_tensorboard(run: Path) -> dict[str, dict[int, float]]:
    """Return name -> step -> value, as TensorBoard's own reader finds them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {name: {event.step: event.value for event in found.Scalars(name)} for name in found.Tags()["scalars"]}


def read_trackio(run: Path) -> dict[str, dict[int, float]]:
    """The same from Trackio's database, read by its own class in a process of its own."""
    name = json.loads((run / trackers.ID_FILE).read_text())["name"]
    program = (
        "import json, sys; from trackio.sqlite_storage import SQLiteStorage; "
        "print(json.dumps(SQLiteStorage.get_logs('mm-adapter', sys.argv[1]), default=str))"
    )
    environment = {**os.environ, "TRACKIO_DIR": str(run.parent / "trackio")}
    done = subprocess.run(
        [sys.executable, "-c", program, name], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, dict[int, float]] = {}
    for row in json.loads(done.stdout.splitlines()[-1]):
        for key, value in row.items():
            if "/" in key:
                found.setdefault(key, {})[row["step"]] = value
    return found


def records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a file of W&B: LevelDB's log format, in blocks of 32 KiB, behind a head of seven bytes."""
    assert content[:4] == b":W&B"
    place, parts = 7, b""
    while place + 7 <= len(content):
        if 32_768 - place % 32_768 < 7:  # too little for a record's head: the rest of the block is empty
            place += 32_768 - place % 32_768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def read_wandb(run: Path) -> dict[str, dict[int, float]]:
    """The same from the file of an offline run, by W&B's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, dict[int, float]] = {}
    (path,) = (run / "wandb").glob("offline-run-*/*.wandb")
    for content in records(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for key, value in values.items():
            if "/" in key:
                found.setdefault(key, {})[values["step"]] = value
    return found


READERS = {"tensorboard": read_tensorboard, "trackio": read_trackio, "wandb": read_wandb}


def train(run: Path, small: list[str], demo_folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, without a network."""
    words = ["train", "--data", str(demo_folder), "--out", str(run), *small, "--eval-every", "0.5", *more]
    own = {"WANDB_MODE": "offline", "TRACKIO_DIR": str(run.parent / "trackio"), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **own, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "mm_adapter", *words], env=environment, capture_output=True, text=True)


@pytest.fixture
def small(tiny_folder: Path) -> list[str]:
    """Options of a text-only training of seconds."""
    sizes = {"layers": "2", "prompt-length": "3", "epochs": "1", "warmup-epochs": "0.5", "batch-size": "8"}
    words = [word for name, value in sizes.items() for word in (f"--{name}", value)]
    return [
        "--llama",
        str(tiny_folder),
        "--vision",
        "none",
        "--max-length",
        "700",
        "--base-lr",
        "0.5",
        "--quiet",
        *words,
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the run without trackers lies, once there is one."""
    return {"run": tmp_path_factory.mktemp("plain") / "run"}


@pytest.mark.parametrize("name", ALL)
def test_told_and_read_back(
    name: str, small: list[str], demo_folder: Path, tmp_path: Path, plain: dict[str, Path]
) -> None:
    """Losses, rates, gates, validation and throughput of every step; the adapter is the same, byte for byte."""
    if not plain["run"].exists():
        assert train(plain["run"], small, demo_folder).returncode == 0
    run = tmp_path / "run"
    done = train(run, small, demo_folder, "--log-to", name)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "told no more" not in done.stderr
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (run / file).read_bytes() == (plain["run"] / file).read_bytes()
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (plain["run"] / "metrics.jsonl").read_text().splitlines()]
    timed = ("questions_per_second",)
    assert [{key: event[key] for key in event if key not in timed} for event in events] == [
        {key: event[key] for key in event if key not in timed} for event in expected
    ]
    found = READERS[name](run)
    for key, place in {
        "loss": "train/loss",
        "lr": "lr/prompts",
        "questions_per_second": "throughput/questions_per_second",
        "val_loss": "validation/loss",
        "val_accuracy": "validation/accuracy",
    }.items():
        told = {event["step"]: event[key] for event in events if key in event}
        assert len(told) > 1
        assert found[place] == pytest.approx(told, rel=1e-6), place
    gates = {event["step"]: 4 * event["lr"] for event in events if "lr" in event}
    assert found["lr/gates"] == pytest.approx(gates, rel=1e-6)
    last = load_file(run / "adapter_model.safetensors")["gates"].tanh().abs().mean(dim=1).tolist()
    best = max(event["step"] for event in events if event.get("best"))
    for layer, mean in zip((2, 3), last, strict=True):
        assert found[f"gates/layer_{layer}"][best] == pytest.approx(mean, rel=1e-5)


@needs["tensorboard"]
def test_a_resumed_run_is_one_curve(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    """Steps that are done again stand once, as they were the second time."""
    trainer = make_trainer(save_steps=2, eval_every=10.0, epochs=2.0, log_to="tensorboard")
    add, name = trainer.log.add, None

    def stop(**event: Any) -> None:
        add(**event)
        if event["step"] == 3:
            raise KeyboardInterrupt

    trainer.log.add = stop
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    name = json.loads((tmp_path / "run" / trackers.ID_FILE).read_text())["name"]
    resumed = make_trainer(resume=True, save_steps=2, eval_every=10.0, epochs=2.0, log_to="tensorboard")
    resumed.run()
    assert json.loads((tmp_path / "run" / trackers.ID_FILE).read_text())["name"] == name
    found = read_tensorboard(tmp_path / "run")["train/loss"]
    told = {event["step"]: event["loss"] for event in resumed.log.events if "loss" in event}
    assert sorted(told) == [1, 2, 3, 4]
    assert found == pytest.approx(told, rel=1e-6)


@needs["tensorboard"]
def test_a_tracker_that_fails_does_not_end_the_run(
    make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and the training goes on to its end."""

    def fail(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(TensorBoard, "log", fail)
    trainer = make_trainer(log_to="tensorboard", epochs=2.0)
    trainer.run()
    assert trainer.progress.step == trainer.total_steps
    assert capsys.readouterr().err.count("tensorboard failed and is told no more (No space left on device)") == 1


def test_gates_of_each_kind(make_trainer: Callable[..., Any]) -> None:
    """By layer of the model; of the attention to pieces of pictures too; none where nothing is gated."""
    adapter = make_trainer(pictures=True, image_prompts="tiles").trained
    with torch.no_grad():
        adapter.gates.copy_(torch.linspace(-1, 1, adapter.gates.numel()).reshape(adapter.gates.shape))
        adapter.image_gates.fill_(0.5)
    found = gate_openings(adapter)
    means = adapter.gates.tanh().abs().mean(dim=1).tolist()
    tiles = {"image_gates/layer_2": pytest.approx(0.46211716), "image_gates/layer_3": pytest.approx(0.46211716)}
    assert found == {"gates/layer_2": pytest.approx(means[0]), "gates/layer_3": pytest.approx(means[1]), **tiles}
    assert gate_openings(make_trainer(folder="other", attention="random-init").trained) == {}


def test_settings_of_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are checked with the nearest one, and a missing package is told before anything is loaded."""
    assert checked.tracker_names("wandb, tensorboard,wandb") == ("wandb", "tensorboard")
    assert checked.tracker_names("none") == ()
    with pytest.raises(UserError, match="log_to 'tensorbord' is not known, did you mean 'tensorboard'"):
        TrainingConfig(log_to="tensorbord")
    with pytest.raises(UserError, match="log_to 'none' is not known"):
        TrainingConfig(log_to="wandb,none")
    monkeypatch.setattr(checked, "find_spec", lambda _: None)
    checked.check_trackers("none")
    with pytest.raises(UserError, match=r"log_to trackio: its package is missing; pip install 'mm-adapter\[watch\]'"):
        checked.check_trackers("trackio")


def test_nothing_is_imported_for_runs_that_are_not_told(make_trainer: Callable[..., Any]) -> None:
    """A plain run has no follower, and leaves no file of one."""
    trainer = make_trainer()
    trainer.run()
    assert trainer.log.followers == []
    assert not (trainer.folder / trackers.ID_FILE).exists()
