"""How wide an image tower's features are and what it weighs, without loading it."""

from dataclasses import dataclass

from mm_adapter.core.errors import UserError
from mm_adapter.training.config import TrainingConfig

# Channels of EfficientNet-Lite0 (arXiv 1905.11946): its last stages, the deepest first, then the final embedding.
_LITE0_STAGES, _LITE0_FINAL, _LITE0_PARAMETERS = (320, 112, 40, 24, 16), 1280, 3_371_008


@dataclass(frozen=True)
class TowerShape:
    """What a plan needs of a tower.

    Attributes:
        features: width of a picture's features F; 0 without pictures.
        parameters: of the tower, in float32.
    """

    features: int
    parameters: int


def tower_shape(config: TrainingConfig, features: int | None = None) -> TowerShape:
    """Return the tower's shape from its published configuration.

    Args:
        features: width of the features, where the user says it.

    Raises:
        UserError: the tower is not known, or its width cannot be told without loading it.
    """
    name = config.vision
    if name == "none":
        if features:
            raise UserError("--image-features goes with an image tower; leave it out with --vision none.")
        return TowerShape(0, 0)
    tiles = sum(1 if view.strip() == "own" else int(view.strip()[0]) ** 2 for view in config.views.split(","))
    if name == "efficientnet-lite0":
        own = sum(_LITE0_STAGES[: config.depths]) + _LITE0_FINAL
        return TowerShape(features or tiles * own, _LITE0_PARAMETERS)
    found = None if name.startswith("timm:") else _open_clip_shape(name.split("/")[0], config.depths)
    if found is None:
        if features is None:
            raise UserError(f"image tower {name}: its width is not known without loading it; give --image-features.")
        return TowerShape(features, 0)
    return TowerShape(features or tiles * found.features, found.parameters)


def _open_clip_shape(architecture: str, depths: int) -> TowerShape | None:
    """Return features and parameters of a vision transformer of open_clip, None for another kind of tower."""
    import open_clip

    known = open_clip.get_model_config(architecture)
    if known is None:
        raise UserError(f"image tower: open_clip knows no {architecture!r}.")
    vision = known["vision_cfg"]
    if not isinstance(vision.get("layers"), int) or "timm_model_name" in vision:
        return None
    width, layers, patch = vision["width"], vision["layers"], vision["patch_size"]
    embedding = known["embed_dim"]
    positions = (vision["image_size"] // patch) ** 2 + 1
    # Per layer: attention 4 w^2, feed-forward 8 w^2, biases 9 w, two norms 4 w. Besides: class token, two norms.
    parameters = layers * (12 * width**2 + 13 * width) + (3 * patch**2 + positions + embedding + 5) * width
    return TowerShape(min(depths, layers) * width + embedding, parameters)
