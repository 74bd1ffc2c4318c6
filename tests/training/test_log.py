"""Metrics are one JSON object per line, and a curve is drawn from them."""

import errno
import json

import pytest
from PIL import Image

from mm_adapter.core.errors import UserError
from mm_adapter.training.folder import CURVE_FILE, METRICS_FILE, MetricsLog


def test_events_and_curve(tmp_path):
    """Every event is on disk at once; the curve is a picture."""
    log = MetricsLog(tmp_path / "run")
    log.add(step=1, loss=2.0)
    log.add(step=1, val_accuracy=50.0, val_loss=0.7)
    lines = (tmp_path / "run" / METRICS_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 1]
    log.draw()
    with Image.open(tmp_path / "run" / CURVE_FILE) as curve:
        assert curve.format == "PNG"


def test_curve_without_events(tmp_path):
    """Interrupted before the first step, the run still draws an empty curve."""
    MetricsLog(tmp_path).draw()
    assert (tmp_path / CURVE_FILE).is_file()


def test_resumed_run_drops_what_it_repeats(tmp_path):
    """Events after the saved step, and a last line cut in two, would otherwise stand twice."""
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.add(step=step, loss=1.0)
    with open(log.path, "a") as file:
        file.write('{"step": 4, "lo')
    assert [event["step"] for event in MetricsLog(tmp_path, keep_steps=2).events] == [1, 2]
    assert len((tmp_path / METRICS_FILE).read_text().splitlines()) == 2
    assert MetricsLog(tmp_path).events == []


def test_full_disk_names_the_file(tmp_path, monkeypatch):
    """A bare 'No space left' would not say where."""
    log = MetricsLog(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(UserError, match=r"metrics.jsonl: cannot be written \(No space"):
        log.add(step=1)
