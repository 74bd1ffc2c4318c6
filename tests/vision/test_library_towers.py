"""Towers compute what open_clip and timm compute themselves, whatever family; ``scripts/check_towers.py`` tries all."""

from pathlib import Path

import pytest
import timm
from check_towers import BAR, check_open_clip, check_timm

from mm_adapter.vision import ImageTower, VisionConfig

FAMILIES = (
    *("convnext_atto", "edgenext_xx_small", "efficientvit_b0", "fastvit_t8", "levit_128s", "mobilenetv3_small_050"),
    *("mobilevit_xxs", "regnetx_002", "resnet10t", "test_vit"),
)


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "ViT-B-16-quickgelu", "RN50", "coca_ViT-B-32", "convnext_tiny", "MobileCLIP-S1", "ViT-S-16"]
)
def test_architectures_of_open_clip(tmp_path: Path, name: str) -> None:
    """Transformers, ResNets, captioners and models of timm inside open_clip, cut to a layer or two."""
    error = check_open_clip(name, tmp_path)
    assert error is not None
    assert error <= BAR


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_timm(tmp_path: Path, name: str) -> None:
    """The smallest of a family, as its first tag prepares pictures."""
    assert check_timm(timm.list_pretrained(f"{name}.*")[0], tmp_path) <= BAR


def test_the_towers_of_a_check_are_put_back() -> None:
    """A check that cuts an architecture leaves the library as it was."""
    import open_clip

    assert open_clip.get_model_config("ViT-B-32")["vision_cfg"]["layers"] == 12
    assert ImageTower(VisionConfig(depths=0)).feature_size == 1280
