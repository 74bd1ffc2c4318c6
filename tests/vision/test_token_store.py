"""Tokens of pictures: what the library gives, kept in half precision on disk, read picture by picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import open_image
from mm_adapter.distributed import DistributedContext
from mm_adapter.scoring.encoded_sets import stack_features
from mm_adapter.vision import ImageTower, VisionConfig, token_store
from mm_adapter.vision import features as features_module
from mm_adapter.vision.features import extract_features

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def token_tower(tower_file: Path) -> ImageTower:
    """A tower that gives tokens."""
    return ImageTower(VisionConfig(f"timm:test_efficientnet/{tower_file}", output="tokens"))


@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_vit", "test_resnet", "test_convnext", "swin_tiny_patch4_window7_224"]
)
def test_tokens_pool_to_the_librarys_own_embedding(name: str, tmp_path: Path) -> None:
    """Maps with channels first or last, and sequences with a class token: the model's head on them is its output."""
    torch.manual_seed(1)
    model: Any = timm.create_model(name, num_classes=0).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    tower = ImageTower(VisionConfig(f"timm:{name}/{tmp_path / 'weights.pth'}", output="tokens"))
    views = torch.randn(2, 1, 3, tower.size, tower.size)
    tokens = tower.encode(views)
    with torch.no_grad():
        expected = model.forward_features(views[:, 0])
    assert tokens.shape[0] == 2
    assert tokens.shape[2] == tower.feature_size == model.num_features
    if expected.ndim == 3:
        assert torch.equal(tokens, expected)
        return
    axis = expected.shape.index(model.num_features, 1)
    places = [place for place in range(1, 4) if place != axis]
    assert tokens.shape[1] == expected.shape[places[0]] * expected.shape[places[1]]
    assert (tokens.mean(dim=1) - expected.mean(dim=places)).abs().max() < 1e-5
    # The first token is the upper left place, the second the one on its right.
    first = expected.movedim(axis, -1)[:, 0]
    assert torch.equal(tokens[:, : first.shape[1]], first)


def test_tokens_are_kept_in_half_precision_and_found_again(
    token_tower: ImageTower, make_picture: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within float16's rounding of what the tower says; files of so many pictures each; a second run computes none."""
    monkeypatch.setattr(token_store, "PART", 3)
    paths = [make_picture(f"{seed}.png", seed) for seed in range(7)]
    found, bad = extract_features(token_tower, [*paths, paths[0]], tmp_path, batch_size=2, progress=False)
    assert bad == {}
    assert list(found) == paths
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith("timm")]
    assert sorted(len(load_file(path)) for path in folder.iterdir()) == [1, 3, 3]
    for path in paths:
        expected = token_tower.encode(token_tower.preprocess(open_image(path))[None])[0]
        assert found[path].dtype == torch.float16
        assert (found[path].float() - expected).abs().max() <= 2**-11 * expected.abs().max() + 1e-6
    monkeypatch.setattr(token_tower, "encode", lambda views: pytest.fail("the tower was asked to work"))
    again, _ = extract_features(token_tower, paths, tmp_path, progress=False)
    assert all(torch.equal(again[path], found[path]) for path in paths)
    stacked, present = stack_features([paths[1], None], again)
    assert stacked is not None
    assert present is not None
    assert present.tolist() == [True, False]
    assert torch.equal(stacked[0], found[paths[1]])
    assert not stacked[1].any()


def test_numbers_beyond_half_precision_stay_whole(tmp_path: Path) -> None:
    """A picture whose tokens float16 cannot hold is kept in float32, exactly."""
    large = torch.tensor([[1e5, 1.0], [3.0, 1 / 3]])
    store = token_store.TokenStore(tmp_path, {})
    store.add("a", large)
    store.save()
    assert torch.equal(token_store.TokenStore(tmp_path, {})["a"], large)


def test_what_is_done_is_kept_where_a_picture_fails(
    token_tower: ImageTower, make_picture: Make, tmp_path: Path
) -> None:
    """A bad picture is named, the others are in the store."""
    good, bad = [make_picture(f"{seed}.png", seed) for seed in range(3)], tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\.png"):
        extract_features(token_tower, [*good, bad], tmp_path / "store", batch_size=1, progress=False)
    found, reasons = extract_features(token_tower, [*good, bad], tmp_path / "store", skip_bad=True, progress=False)
    assert list(found) == good
    assert list(reasons) == [bad]


def test_a_damaged_file_is_named(token_tower: ImageTower, make_picture: Make, tmp_path: Path) -> None:
    """Not a traceback: which file, and what to do."""
    extract_features(token_tower, [make_picture("a.png")], tmp_path / "store", progress=False)
    (file,) = (tmp_path / "store").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=f"{file.name}: damaged feature store"):
        extract_features(token_tower, [make_picture("a.png")], tmp_path / "store", progress=False)


def test_processes_that_see_other_files_are_told(tmp_path: Path) -> None:
    """Ranks on hosts without a common folder would lack what the others have computed."""

    class Elsewhere(DistributedContext):
        def gather(self, value: Any) -> list[Any]:
            return [value, 99 if isinstance(value, int) else value]

    store = features_module.FeatureStore.__new__(features_module.FeatureStore)
    store.path, store.features, store.tokens = tmp_path, {}, token_store.TokenStore(tmp_path, {})
    with pytest.raises(UserError, match="a folder that all hosts share"):
        features_module._exchange(store, [], {}, None, Elsewhere(0, 2))
