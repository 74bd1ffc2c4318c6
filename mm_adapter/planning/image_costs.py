"""What pictures cost: the width of a tower's features without loading it, and what makes prompts of them."""

from dataclasses import dataclass

from mm_adapter.core.errors import UserError
from mm_adapter.training.config import TrainingConfig

# Channels of EfficientNet-Lite0 (arXiv 1905.11946): its last stages, the deepest first, then the final embedding.
_LITE0_STAGES, _LITE0_FINAL, _LITE0_PARAMETERS = (320, 112, 40, 24, 16), 1280, 3_371_008
_LITE0_PLACES = 7 * 7  # of its last feature map
_SINGLE = 4


@dataclass(frozen=True)
class TowerShape:
    """What a plan needs of a tower.

    Attributes:
        features: width of a picture's features F, of its tokens E with ``image_prompts`` query; 0 without pictures.
        parameters: of the tower, in float32.
        pieces: widths of the parts of global features, see ``ImageTower``; empty where they are not known.
        tokens: of a picture, T; 0 where its features are global.
    """

    features: int
    parameters: int
    pieces: tuple[int, ...] = ()
    tokens: int = 0


NO_TOWER = TowerShape(0, 0)


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
        return NO_TOWER
    tiles = sum(1 if view.strip() == "own" else int(view.strip()[0]) ** 2 for view in config.views.split(","))

    def _shape(of_tile: tuple[int, ...], parameters: int) -> TowerShape:
        return TowerShape(features or tiles * sum(of_tile), parameters, () if features else tiles * of_tile)

    if features and config.image_prompts == "tiles":
        raise UserError("--image-features does not say which parts they have; leave it out with image_prompts tiles.")
    asks_tokens = config.image_prompts == "query"
    if name == "efficientnet-lite0":
        if asks_tokens:
            return TowerShape(features or _LITE0_FINAL, _LITE0_PARAMETERS, tokens=tiles * _LITE0_PLACES)
        return _shape((*reversed(_LITE0_STAGES[: config.depths]), _LITE0_FINAL), _LITE0_PARAMETERS)
    found = None if name.startswith("timm:") else _open_clip_shape(name.split("/")[0], config.depths)
    if found is None:
        if asks_tokens:
            raise UserError(f"image tower {name}: how many tokens it gives is not known without loading it.")
        if features is None:
            raise UserError(f"image tower {name}: its width is not known without loading it; give --image-features.")
        if config.image_prompts == "tiles":
            raise UserError(f"image tower {name}: which parts its features have is not known without loading it.")
        return TowerShape(features, 0)
    if asks_tokens:
        return TowerShape(features or found.embedding, found.parameters, tokens=tiles * found.tokens)
    return _shape(found.pieces, found.parameters)


@dataclass(frozen=True)
class _TransformerShape:
    """A vision transformer: widths of its global features by depth and of its embedding, tokens, parameters."""

    pieces: tuple[int, ...]
    embedding: int
    tokens: int
    parameters: int


def _open_clip_shape(architecture: str, depths: int) -> _TransformerShape | None:
    """Return the shape of a vision transformer of open_clip, None for another kind of tower."""
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
    return _TransformerShape((*min(depths, layers) * (width,), embedding), embedding, positions, parameters)


@dataclass(frozen=True)
class VisualCosts:
    """What the trained part costs that makes vectors of pictures: projection or visual query.

    Attributes:
        tensors: kind -> numbers in each of its trained tensors.
        there, back: floating-point operations of a pass.
        kept: bytes that a pass keeps for its gradients, float32.
    """

    tensors: dict[str, list[int]]
    there: int
    back: int
    kept: int


def visual_costs(config: TrainingConfig, hidden: int, tower: TowerShape, pictures: int = 1) -> VisualCosts:
    """Return the costs for a pass over ``pictures``; none without any.

    Args:
        hidden: of the language model, D.
    """
    if not tower.features:
        return VisualCosts({}, 0, 0, 0)
    if config.image_prompts == "query":
        return _query_costs(config, hidden, tower, pictures)
    tiled = config.image_prompts == "tiles"
    rows, entering = (pictures * len(tower.pieces), max(tower.pieces)) if tiled else (pictures, tower.features)
    inside = config.bottleneck
    # Layer norm, down, up: weights and biases of each.
    tensors = {"projection": [entering, entering, entering * inside, inside, inside * hidden, hidden]}
    kept = rows * (2 * entering + 2 * inside + 2 * hidden)
    if tiled:
        tensors["places"] = [config.layers * len(tower.pieces) * hidden]
        tensors["projection"] += [hidden, hidden]  # the norm that it ends in
    product = 2 * rows * inside * (entering + hidden)
    # Normalised features have a graph, that of the norm's own weights.
    return VisualCosts(tensors, product, 2 * product, kept * _SINGLE)


def _query_costs(config: TrainingConfig, hidden: int, tower: TowerShape, pictures: int) -> VisualCosts:
    """Return the costs of ``VisualQuery``."""
    width, blocks, length = config.query_width, config.query_blocks, config.prompt_length
    rows = pictures * (length + tower.tokens)
    of_block = [width] * 4 + [3 * width**2, 3 * width, width**2, width, *2 * [4 * width**2], 4 * width, width]
    tensors = [length * width, tower.features * width, width, width, width, *blocks * of_block]
    tensors += [width * hidden, hidden, hidden, hidden]
    entering = 2 * pictures * tower.tokens * tower.features * width  # no gradient for the features themselves
    linear = 2 * blocks * rows * 12 * width**2 + 2 * pictures * length * width * hidden
    attention = 2 * blocks * rows * (length + tower.tokens) * width  # one of the two products there, of five back
    # Of a block: what both norms, the four matrices, attention and the activation are given or give.
    kept = pictures * tower.tokens * (tower.features + width) + rows * width * (16 * blocks + 1)
    kept += pictures * length * hidden
    return VisualCosts(
        {"visual query": tensors},
        entering + linear + 2 * attention,
        entering + 2 * linear + 5 * attention,
        kept * _SINGLE,
    )
