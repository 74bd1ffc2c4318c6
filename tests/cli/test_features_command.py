"""``mm-adapter features``: pictures are looked at once."""

import shutil

import pytest

import mm_adapter.vision.features as module


def test_second_run_reads_the_store(command, demo_folder, tmp_path, monkeypatch):
    """All pictures in one file; the second time nothing is computed."""
    arguments = ["--vision", "efficientnet-lite0", "--data", demo_folder, "--out", tmp_path / "store", "--quiet"]
    outcome = command("features", *arguments)
    assert outcome.status == 0
    assert ": 34 features, 0 pictures skipped" in outcome.out
    (file,) = (tmp_path / "store").iterdir()
    before = file.read_bytes()
    monkeypatch.setattr(module, "_encode", None)
    assert command("features", *arguments).out == outcome.out
    assert file.read_bytes() == before


def test_bad_pictures(command, refused, broken_data, tmp_path):
    """Refused by file, or skipped by pid and reason."""
    pid = broken_data.pid()
    broken_data.image(pid).write_bytes(b"no picture")
    arguments = ["--vision", "efficientnet-lite0", "--data", broken_data.folder, "--out", tmp_path / "s", "--quiet"]
    assert str(broken_data.image(pid)) in refused("features", *arguments)
    outcome = command("features", *arguments, "--skip-bad")
    assert outcome.status == 0
    assert "33 features, 1 pictures skipped" in outcome.out
    assert f"skipped {pid}: " in outcome.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--vision", "timm:resnet81"], "did you mean"),
        (["--vision", "ViT-L-41/openai"], "did you mean"),
        (["--vision", "ViT-B-32/nowhere.pt"], "neither a known tag"),
        (["--vision", "efficientnet-lite0", "--views", "own,4x4"], "'4x4' is not known"),
        (["--vision", "efficientnet-lite0", "--depths", "-1"], "depths"),
        (["--vision", "efficientnet-lite0", "--device", "gpu"], "device 'gpu'"),
    ],
)
def test_towers_that_do_not_exist(refused, demo_folder, tmp_path, options, said):
    """A typo in a tower's name is answered with the nearest; nothing is written."""
    assert said in refused("features", "--data", demo_folder, "--out", tmp_path / "store", *options)
    assert not (tmp_path / "store").exists()


def test_damaged_store_is_named(refused, command, demo_folder, tmp_path, store, picture_run):
    """A cut store is not taken for an empty one."""
    copy = shutil.copytree(store, tmp_path / "store")
    (file,) = copy.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    arguments = ["--adapter", picture_run, "--data", demo_folder, "--features", copy, "--quiet"]
    assert "damaged feature store" in refused("evaluate", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
