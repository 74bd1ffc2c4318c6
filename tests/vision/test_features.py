"""The feature store: computed once, found again by content, never lost by a bad picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mm_adapter.core.errors import UserError
from mm_adapter.vision import ImageTower, VisionConfig
from mm_adapter.vision.features import extract_features

Make = Callable[..., Path]


@pytest.fixture
def idle_tower(small_tower: ImageTower, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, the tower refuses to work."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the tower was asked to work")

    return lambda: monkeypatch.setattr(small_tower, "encode", refuse)


def test_a_second_run_computes_nothing(
    small_tower: ImageTower, make_picture: Make, tmp_path: Path, idle_tower: Callable[[], None]
) -> None:
    """The store gives the same features back, without the tower, renamed pictures included."""
    paths = [make_picture(f"{seed}.png", seed) for seed in range(5)]
    first, bad = extract_features(small_tower, paths, tmp_path / "store", batch_size=2, progress=False)
    assert bad == {}
    assert list(first) == paths
    idle_tower()
    renamed = paths[0].rename(paths[0].with_name("renamed.png"))
    second, _ = extract_features(small_tower, [renamed, *paths[1:]], tmp_path / "store", progress=False)
    assert torch.equal(second[renamed], first[paths[0]])
    assert all(torch.equal(second[path], first[path]) for path in paths[1:])


def test_features_are_those_of_the_tower(small_tower: ImageTower, make_picture: Make, tmp_path: Path) -> None:
    """Batching on threads gives each picture its own features, in any batch size."""
    from mm_adapter.core.images import open_image

    paths = [make_picture(f"{seed}.png", seed) for seed in range(7)]
    found, _ = extract_features(small_tower, paths, tmp_path / "store", batch_size=3, progress=False)
    for path in paths:
        expected = small_tower.encode(small_tower.preprocess(open_image(path))[None])[0]
        assert found[path].shape == (small_tower.feature_size,)
        assert (found[path] - expected).abs().max() < 1e-4


def test_equal_pictures_are_computed_once(
    small_tower: ImageTower, make_picture: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies and repeats share one computation."""
    copies = [make_picture("a.png"), make_picture("b.png")]
    sizes = []
    encode = small_tower.encode

    def counting(views: torch.Tensor) -> torch.Tensor:
        sizes.append(len(views))
        return encode(views)

    monkeypatch.setattr(small_tower, "encode", counting)
    found, _ = extract_features(small_tower, [*copies, *copies], tmp_path / "store", progress=False)
    assert sizes == [1]
    assert torch.equal(found[copies[0]], found[copies[1]])


def test_a_changed_picture_is_computed_again(small_tower: ImageTower, make_picture: Make, tmp_path: Path) -> None:
    """The key is the content, not the name."""
    path = make_picture("a.png", 0)
    before = extract_features(small_tower, [path], tmp_path / "store", progress=False)[0][path]
    make_picture("a.png", 1)
    after = extract_features(small_tower, [path], tmp_path / "store", progress=False)[0][path]
    assert not torch.equal(before, after)


def test_another_way_of_looking_has_its_own_store(
    small_tower: ImageTower, tower_file: Path, make_picture: Make, tmp_path: Path
) -> None:
    """Tower, weights, depths and views never share features."""
    path = make_picture("a.png")
    extract_features(small_tower, [path], tmp_path / "store", progress=False)
    name = f"timm:test_efficientnet/{tower_file}"
    for config in (VisionConfig(name, depths=1), VisionConfig(name, views=("1x1",))):
        tower = ImageTower(config)
        found, _ = extract_features(tower, [path], tmp_path / "store", progress=False)
        assert len(found[path]) == tower.feature_size
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_a_damaged_store_is_named(small_tower: ImageTower, make_picture: Make, tmp_path: Path) -> None:
    """A truncated store is an error that says what to do."""
    path = make_picture("a.png")
    extract_features(small_tower, [path], tmp_path / "store", progress=False)
    store = next((tmp_path / "store").iterdir())
    store.write_bytes(store.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"damaged feature store .* Delete it"):
        extract_features(small_tower, [path], tmp_path / "store", progress=False)


@pytest.mark.parametrize("kind", ["absent", "damaged"])
def test_bad_pictures(small_tower: ImageTower, make_picture: Make, tmp_path: Path, kind: str) -> None:
    """A bad picture stops the run by name, or is left out by name and reason; the others are all there."""
    good = [make_picture("a.png", 0), make_picture("c.png", 2)]
    bad = tmp_path / "pictures" / "bad.png"
    if kind == "damaged":
        bad.write_bytes(good[0].read_bytes()[:100])
    paths = [good[0], bad, good[1]]
    with pytest.raises(UserError, match=r"bad\.png"):
        extract_features(small_tower, paths, tmp_path / "store", progress=False)
    found, reasons = extract_features(small_tower, paths, tmp_path / "store", skip_bad=True, progress=False)
    assert list(found) == good
    assert list(reasons) == [bad]
    assert "bad.png" in reasons[bad]


def test_copies_of_a_bad_picture_are_all_reported(small_tower: ImageTower, make_picture: Make, tmp_path: Path) -> None:
    """Two files of the same damaged content are two bad pictures."""
    content = make_picture("a.png").read_bytes()[:100]
    bad = [tmp_path / "pictures" / name for name in ("x.png", "y.png")]
    for path in bad:
        path.write_bytes(content)
    found, reasons = extract_features(small_tower, bad, tmp_path / "store", skip_bad=True, progress=False)
    assert found == {}
    assert list(reasons) == bad


def test_work_before_a_failure_is_kept(
    small_tower: ImageTower, make_picture: Make, tmp_path: Path, idle_tower: Callable[[], None]
) -> None:
    """What was computed before a bad picture is not computed again."""
    good = [make_picture(f"{seed}.png", seed) for seed in range(2)]
    bad = tmp_path / "pictures" / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError, match="bad"):
        extract_features(small_tower, [*good, bad], tmp_path / "store", batch_size=1, progress=False)
    idle_tower()
    found, _ = extract_features(small_tower, good, tmp_path / "store", progress=False)
    assert list(found) == good


def test_progress_is_shown(
    small_tower: ImageTower,
    make_picture: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On stderr pictures are counted: a line a minute where it is no terminal, here one without waiting."""
    monkeypatch.setattr("mm_adapter.core.progress.LINE_SECONDS", 0.0)
    extract_features(small_tower, [make_picture("a.png")], tmp_path / "store")
    assert "image features" in capsys.readouterr().err


def test_no_pictures(small_tower: ImageTower, tmp_path: Path) -> None:
    """Nothing to do leaves nothing behind."""
    assert extract_features(small_tower, [], tmp_path / "store", progress=False) == ({}, {})
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written(small_tower: ImageTower, make_picture: Make, tmp_path: Path) -> None:
    """A folder that is a file is an error of one line."""
    (tmp_path / "store").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        extract_features(small_tower, [make_picture("a.png")], tmp_path / "store", progress=False)
