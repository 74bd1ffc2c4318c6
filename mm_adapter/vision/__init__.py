"""Frozen image towers by open_clip or timm name, and the global features that they give. Knows nothing of language."""

import hashlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor, nn

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.fingerprint import tensors_fingerprint

if TYPE_CHECKING:
    from mm_adapter.vision.backbones import Backbone

DEFAULT_TOWER = "efficientnet-lite0"


@dataclass(frozen=True)
class VisionConfig:
    """Which tower looks at a picture, and how.

    Attributes:
        tower: ``efficientnet-lite0`` (the default); an open_clip architecture with its weights, ``ViT-L-14/openai``, or
            with a file of weights that were trained as those of a tag were, ``ViT-L-14/openai@FILE``; a folder or hub
            id in open_clip's layout, ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``; ``timm:NAME`` or
            ``timm:NAME.TAG``, with an optional file of weights after a slash.
        depths: how many of the tower's last stages give a feature, besides its final embedding.
        views: how the picture is shown: ``own`` (the tower's own preprocessing, which may crop), ``1x1`` (the whole
            picture squeezed into the tower's square), ``2x2``, ``3x3`` (tiles of it, each at the tower's resolution).
        output: ``global`` (global features, one vector a picture) or ``tokens`` (every token: of a CLIP vision
            transformer in the space of its embedding, of a model of timm the places of its last feature map);
            ``depths`` says nothing then.
        channel_order: ``rgb``, or ``bgr``: the tower is shown pictures with red and blue swapped.
    """

    tower: str = DEFAULT_TOWER
    depths: int = 4
    views: tuple[str, ...] = ("own",)
    output: str = "global"
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        for name, known in (("output", ("global", "tokens")), ("channel_order", ("rgb", "bgr"))):
            if getattr(self, name) not in known:
                raise UserError(f"vision: {name} {getattr(self, name)!r} is not known; {' and '.join(known)} are.")
        for view in self.views:
            if view not in ("own", "1x1", "2x2", "3x3"):
                raise UserError(f"image view {view!r} is not known{suggestion(view, ('own', '1x1', '2x2', '3x3'))}.")
        if self.depths < 0 or not self.views:
            raise UserError("vision: depths must not be negative, and at least one view is needed.")


class ImageTower(nn.Module):
    """A frozen tower with its preprocessing.

    Attributes:
        config: how it looks.
        fingerprint: of all that decides its features: weights, activation, preprocessing, input size.
        weights_fingerprint: of its weights alone, which is all that adapters of version 0.1 know.
        is_corrected: version 0.1 computed other features from these weights, with GELU in place of QuickGELU.
        size: height and width of its input, in pixels.
        feature_size: width of its features.
        pieces: widths of the parts of global features, in order: each depth of each tile; empty where it gives tokens.
    """

    def __init__(self, config: VisionConfig, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.config = config
        name = config.tower
        backbone = _backbone(name)
        if config.output == "tokens" and backbone.tokens is None:
            raise UserError(
                f"image tower {name} gives no tokens; those of timm (timm:NAME, {DEFAULT_TOWER}) and the CLIP "
                "transformers of open_clip do."
            )
        self.model = backbone.model.requires_grad_(False).to(device)
        self.eval()
        self.size, self._own, self._normalise, self._run = backbone.size, backbone.own, backbone.normalise, backbone.run
        self._tokens = backbone.tokens
        self.weights_fingerprint = tensors_fingerprint(self.model.state_dict())
        facts = f"{self.weights_fingerprint} {backbone.description}"
        self.fingerprint = hashlib.sha256(facts.encode()).hexdigest()
        self.is_corrected = backbone.is_corrected
        blank = self._blank().to(device)
        self.feature_size = self.encode(blank).shape[-1]
        of_tile = () if config.output == "tokens" else tuple(part.shape[-1] for part in self._parts(blank[0, :1]))
        self.pieces = of_tile * blank.shape[1]

    def _blank(self) -> Tensor:
        return torch.zeros_like(self.preprocess(Image.new("RGB", (self.size, self.size))))[None]

    def blank_features(self) -> Tensor:
        """Return the features of an all-zero picture, ``(1, F)`` or ``(1, T, E)``: zeros where the tower begins."""
        return self.encode(self._blank().to(next(self.parameters()).device))

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return the views of an RGB picture, ``(tiles, 3, size, size)`` float32."""
        if self.config.channel_order == "bgr":
            image = Image.merge("RGB", image.split()[::-1])
        tiles: list[Tensor] = []
        for view in self.config.views:
            if view == "own":
                tiles.append(self._own(image))
                continue
            count = int(view[0])
            side = self.size * count
            squeezed = image.resize((side, side), Image.Resampling.BICUBIC)
            whole = self._normalise(squeezed)
            rows = whole.unfold(1, self.size, self.size).unfold(2, self.size, self.size)
            tiles.extend(rows.permute(1, 2, 0, 3, 4).flatten(0, 1))
        return torch.stack(tiles)

    @torch.no_grad()
    def encode(self, views: Tensor) -> Tensor:
        """Return the features of preprocessed pictures ``(B, tiles, 3, size, size)``, float32.

        With ``output`` tokens ``(B, T, E)``: all tokens of a tile, the class token first, the tiles one after another.
        Otherwise global features ``(B, F)``. Per tile: the mean over positions, or the class token where there is one,
        of the last ``depths`` stages, then the final embedding; the tiles one after another (the paper's multi-scale
        global features, section 3.3).
        """
        batch = views.shape[0]
        if self.config.output == "tokens":
            assert self._tokens is not None
            tokens = self._tokens(views.flatten(0, 1))  # (B * tiles, tokens of a tile, E)
            return tokens.float().reshape(batch, -1, tokens.shape[-1])
        return torch.cat(self._parts(views.flatten(0, 1)), dim=-1).float().reshape(batch, -1)

    @torch.no_grad()
    def _parts(self, tiles: Tensor) -> list[Tensor]:
        """Return the features of tiles ``(N, 3, size, size)`` by depth, the final embedding last: ``(N, C)`` each."""
        stages, final = self._run(tiles)
        return [*stages[len(stages) - min(self.config.depths, len(stages)) :], final]


def _backbone(name: str) -> "Backbone":
    # Imported here: timm takes as long to import as torch, open_clip longer, and most runs need one of them or neither.
    if name == DEFAULT_TOWER or name.startswith("timm:"):
        from mm_adapter.vision.backbones import lite0_backbone, timm_backbone

        return lite0_backbone() if name == DEFAULT_TOWER else timm_backbone(name.removeprefix("timm:"))
    from mm_adapter.vision.open_clip_backbone import open_clip_backbone

    return open_clip_backbone(name)


def check_tower(tower: ImageTower, trained_with: str | None) -> None:
    """Refuse a tower whose features are not those that an adapter was trained with.

    An adapter of version 0.1 knows only the weights of its tower; it is taken with a note, except where that version
    computed other features from them.

    Raises:
        UserError: they are others.
    """
    if trained_with in (None, tower.fingerprint):
        return
    name = tower.config.tower
    if trained_with != tower.weights_fingerprint:
        raise UserError(
            f"image tower {name}: its features ({tower.fingerprint[:12]}) are not those that the adapter was trained "
            f"with ({(trained_with or '')[:12]}): other weights, or other preprocessing."
        )
    if tower.is_corrected:
        raise UserError(
            f"image tower {name}: version 0.1, which trained this adapter, computed it with GELU; its weights need "
            "QuickGELU, and so it is computed now. Train the adapter again."
        )
    print(f"an older adapter: of its image tower {name} only the weights could be compared", file=sys.stderr)
