"""Image towers against open_clip's and timm's own factories: the same features from the same weights.

    python scripts/check_towers.py [--open-clip N] [--timm N] [--only NAME] [--json FILE]

Every architecture of open_clip that can be built without a hub is cut to one or two layers, every family of timm is
taken at its smallest; weights are random, in a file. The reference is the library's own model, made by its own factory
and asked with its own preprocessing. A tower that we refuse by name is counted apart; one that differs is a failure.
"""

import argparse
import copy
import gc
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import open_clip
import timm
import torch
from bars import bar, write_bars
from PIL import Image

from mm_adapter.core.errors import UserError
from mm_adapter.vision import ImageTower, VisionConfig

BAR = 1e-5
# How families of timm inside open_clip are cut: a word in the name -> arguments of the model.
CUTS = {
    "convnext": {"depths": (1, 1, 1, 1)},
    "swin": {"depths": (1, 1, 1, 1)},
    "fastvit": {},
    "vitamin": {},
    "vit": {"depth": 2},
    "eva": {"depth": 2},
}


def picture() -> Image.Image:
    """Return a picture of noise that is no square."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))


def error_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the relative error of the final embedding."""
    final = found[..., -expected.shape[-1] :]
    return float((final - expected).norm() / expected.norm())


def cut_config(name: str) -> dict[str, Any] | None:
    """Return an open_clip architecture of few layers; None where its text side needs the hub."""
    config = copy.deepcopy(open_clip.get_model_config(name))
    if "hf_model_name" in config["text_cfg"]:
        return None
    vision = config["vision_cfg"]
    if "timm_model_name" not in vision:
        vision["layers"] = [1, 1, 1, 1] if isinstance(vision.get("layers"), list) else 2
    config["text_cfg"] |= {"layers": 1, "vocab_size": 64}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"]["layers"] = 1
    return config


def cut_arguments(name: str) -> dict[str, Any]:
    """Return arguments that make a model of timm small."""
    return next((arguments for word, arguments in CUTS.items() if word in name), {})


@torch.no_grad()
def check_open_clip(name: str, folder: Path) -> float | None:
    """Return the error of one architecture; None where it needs the hub."""
    config = cut_config(name)
    if config is None:
        return None
    create = timm.create_model
    original = open_clip.get_model_config(name)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))

    def small(model: str, *arguments: Any, **options: Any) -> Any:
        return create(model, *arguments, **options, **cut_arguments(model))

    try:
        open_clip.add_model_config(path)
        with patch.object(timm, "create_model", small):
            tags = open_clip.list_pretrained_tags_by_model(name)
            trained = open_clip.get_pretrained_cfg(name, tags[0]) if tags else {}
            quick = bool(trained.get("quick_gelu"))
            torch.manual_seed(0)
            reference, _, prepare = open_clip.create_model_and_transforms(
                name, force_quick_gelu=quick, pretrained_text=False, image_mean=trained.get("mean"),
                image_std=trained.get("std"), image_interpolation=trained.get("interpolation"),
                image_resize_mode=trained.get("resize_mode"),
            )  # fmt: skip
            weights = folder / "weights.pt"
            torch.save(reference.state_dict(), weights)
            expected = reference.eval().visual(prepare(picture())[None])
            expected = expected[0] if isinstance(expected, tuple) else expected
            del reference
            tower = ImageTower(VisionConfig(f"{name}/{f'{tags[0]}@' if tags else ''}{weights}", depths=1))
        return error_of(tower.encode(tower.preprocess(picture())[None]), expected)
    finally:
        path.write_text(json.dumps(original))
        open_clip.add_model_config(path)


def families() -> Iterator[str]:
    """Yield the smallest-named trained model of each family of timm."""
    for module in timm.list_modules():
        names = timm.list_models(module=module, pretrained=True)
        if names:
            yield names[0]


@torch.no_grad()
def check_timm(name: str, folder: Path) -> float:
    """Return the error of one model."""
    torch.manual_seed(0)
    reference = timm.create_model(name, num_classes=0).eval()
    weights = folder / "weights.pt"
    torch.save(reference.state_dict(), weights)
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(reference), is_training=False)
    expected = reference(prepare(picture())[None])
    del reference
    tower = ImageTower(VisionConfig(f"timm:{name}/{weights}", depths=1))
    return error_of(tower.encode(tower.preprocess(picture())[None]), expected)


def main() -> int:
    """Check every tower, print a table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--open-clip", type=int, default=200, help="architectures of open_clip at most")
    parser.add_argument("--timm", type=int, default=60, help="families of timm at most")
    parser.add_argument("--only", help="names that contain this")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    errors: dict[str, dict[str, float]] = {"open_clip": {}, "timm": {}}
    refused: list[str] = []
    failed: list[str] = []
    wanted = [("open_clip", name) for name in open_clip.list_models()][: options.open_clip]
    wanted += [("timm", name) for name in list(families())[: options.timm]]
    with tempfile.TemporaryDirectory() as place:
        for library, name in wanted:
            if options.only and options.only not in name:
                continue
            check = check_open_clip if library == "open_clip" else check_timm
            try:
                error = check(name, Path(place))
            except UserError as reason:
                refused.append(f"{library} {name}: {reason}")
                continue
            except Exception as reason:
                failed.append(name)
                print(f"{library:<10} {name:<40} FAILS: {str(reason)[:120]}", flush=True)
                continue
            if error is not None:
                errors[library][name] = error
                print(f"{library:<10} {name:<40} {error:.1e}", flush=True)
            gc.collect()
    for line in refused:
        print(f"refused: {line[:160]}")
    bars = [
        bar(f"{library}: largest error of {len(found)} towers", max(found.values()), BAR, max(found.values()) <= BAR)
        for library, found in errors.items()
        if found
    ]
    bars.append(bar("towers that fail without a refusal", len(failed), 0, not failed))
    for item in bars:
        print(f"{item['name']}: {item['value']:.1e} (bar {item['bar']:.0e})")
    if options.json:
        write_bars(options.json, bars)
    return 0 if all(item["holds"] for item in bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
