"""Backbones of image towers as open_clip makes them: what decides their features comes from their weights."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.vision.backbones import Backbone, normaliser, reason, require_file, sorted_json


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
        raise UserError(f"image tower {name} cannot be loaded ({reason(error)}).") from error
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
    description = f"open_clip {activation} {sorted_json(settings)}"
    given = tokens if _norms_every_token(visual) else None
    return Backbone(visual, edge, own, normaliser(settings), run, description, corrected, given)


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
        require_file(file, architecture)
        return tag, file
    if not rest:
        raise UserError(f"image tower {name}: name its weights, as {architecture}/{tags[0] if tags else 'FILE'}.")
    require_file(rest, architecture)
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
