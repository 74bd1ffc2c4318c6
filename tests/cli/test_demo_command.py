"""``mm-adapter demo`` and ``demo-data``: the whole thread at once."""

import json

from mm_adapter.data.readers import read_dataset


def test_demo_data(command, refused, tmp_path):
    """The same seed gives the same set; nothing is overwritten; a set too small is refused."""
    for name in "ab":
        assert command("demo-data", "--out", tmp_path / name, "--size", "60", "--seed", "5").status == 0
    assert (tmp_path / "a" / "problems.json").read_bytes() == (tmp_path / "b" / "problems.json").read_bytes()
    assert len(read_dataset(str(tmp_path / "a")).questions) == 60
    assert "not an empty folder" in refused("demo-data", "--out", tmp_path / "a", "--size", "60")
    assert "too small" in refused("demo-data", "--out", tmp_path / "c", "--size", "5")
    assert not (tmp_path / "c").exists()


def test_demo_runs_the_whole_thread(command, refused, tiny_folder, tmp_path):
    """Data, base, two trainings, evaluations, one answer; summary.json has the official keys of all three."""
    out = tmp_path / "demo"
    options = ["--llama", tiny_folder, "--size", "60", "--epochs", "1", "--layers", "2", "--quiet"]
    outcome = command("demo", "--out", out, *options)
    assert outcome.status == 0, outcome.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary.keys() == {"base", "text_only", "multimodal", "seconds"}
    for name in ("base", "text_only", "multimodal"):
        assert {"acc_natural", "acc_has_image", "acc_average"} <= summary[name].keys()
        assert (out / name / "test" / "metrics.json").is_file()
    assert json.loads((out / "text_only" / "config.json").read_text())["vision"] == "none"
    assert "mm-adapter answer --adapter" in outcome.err
    page = outcome.err.split("ask on a page")[1]
    assert "http://127.0.0.1:8000" in page
    assert f"mm-adapter serve --adapter {out / 'multimodal'} --open" in page
    assert (out / "report.md").read_text().count("|") > 20
    before = (out / "summary.json").read_bytes()
    assert "not empty" in refused("demo", "--out", out, *options)
    assert (out / "summary.json").read_bytes() == before


def test_demo_that_cannot_begin_leaves_nothing(refused, tmp_path):
    """A model that is not there: no half-filled folder that the next try would stumble over."""
    assert "nowhere" in refused("demo", "--out", tmp_path / "demo", "--llama", tmp_path / "nowhere")
    assert not (tmp_path / "demo").exists()
