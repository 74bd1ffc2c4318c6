"""The trainable part: adaption prompts, gates and the visual projection. Knows nothing of where questions come from."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_adapter.adapter.attention import (
    DeferredPrefix,
    GatedPrefix,
    JoinedPrefix,
    Prefix,
    SummedPrefix,
    litgpt_heads,
    project_prompts,
)
from mm_adapter.adapter.config import AdapterConfig
from mm_adapter.core.errors import UserError
from mm_adapter.llama.attention import Attention
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.model import Llama

if TYPE_CHECKING:
    from mm_adapter.adapter.visual_query import VisualQuery
    from mm_adapter.adapter.weight_tuning import WeightTuning


class VisualProjection(nn.Module):
    """Bottleneck MLP over concatenated multi-scale global features (LLaMA-Adapter, section 3.3, eq. 6).

    Args:
        normalised: end in a layer norm, so that from the start a picture weighs in a prompt as much as its place does.

    Shapes:
        image_features: ``(B, F)`` float32.
        returns: ``(B, D)`` float32.
    """

    output_norm: nn.LayerNorm | None

    def __init__(self, image_size: int, bottleneck: int, hidden_size: int, normalised: bool = False) -> None:
        super().__init__()
        # Towers differ in scale by orders of magnitude; normalised features let one learning rate serve all.
        self.norm = nn.LayerNorm(image_size)
        self.down = nn.Linear(image_size, bottleneck)
        self.activation = nn.GELU()
        self.up = nn.Linear(bottleneck, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size) if normalised else None

    def forward(self, image_features: Tensor) -> Tensor:
        """Project ``(B, F)`` to ``(B, D)``."""
        hidden = self.activation(self.down(self.norm(image_features)))  # (B, bottleneck)
        projected = self.up(hidden)  # (B, D)
        return projected if self.output_norm is None else self.output_norm(projected)


class Adapter(nn.Module):
    """LLaMA-Adapter (arXiv 2303.16199): all that is trained, all that is saved.

    Attributes:
        prompts: ``(L, K, D)`` float32, drawn from a standard normal.
        gates: ``(L, H)`` float32, zeros; absent with random-init attention.
        projection: ``VisualProjection``; absent in a text-only adapter, and with ``image_prompts`` query.
        places: ``(L, P, D)`` float32, drawn from a standard normal: where each of P pieces of a picture belongs; with
            ``image_prompts`` tiles alone.
        image_gates: ``(L, H)`` float32, zeros: of the attention to the pieces; with ``image_prompts`` tiles alone.
        visual_query: ``VisualQuery``, with ``image_prompts`` query alone.
        scales: ``(L,)`` float32, ones; with ``prompt_scale`` alone.
        tuning: ``WeightTuning``; absent where the adapter changes no weight of the model.
    """

    gates: nn.Parameter | None
    projection: VisualProjection | None
    places: nn.Parameter | None
    image_gates: nn.Parameter | None
    visual_query: "VisualQuery | None"
    scales: nn.Parameter | None
    tuning: "WeightTuning | None"

    def __init__(self, config: AdapterConfig, llama: LlamaConfig, seed: int = 0) -> None:
        super().__init__()
        if config.layers > llama.num_layers:
            raise UserError(
                f"the adapter wants {config.layers} layers, the model has {llama.num_layers}; lower layers."
            )
        self.config = config
        self.first_layer = llama.num_layers - config.layers
        generator = torch.Generator().manual_seed(seed)
        shape = (config.layers, config.prompt_length, llama.hidden_size)
        self.prompts = nn.Parameter(torch.randn(shape, generator=generator))
        gated = config.attention == "zero-init"
        self.gates = nn.Parameter(torch.zeros(config.layers, llama.num_heads)) if gated else None
        self.projection, self.visual_query, self.tuning = None, None, None
        tiled = config.image_prompts == "tiles"
        shape = (config.layers, len(config.image_pieces), llama.hidden_size)
        self.places = nn.Parameter(torch.randn(shape, generator=generator)) if tiled else None
        self.image_gates = nn.Parameter(torch.zeros(config.layers, llama.num_heads)) if tiled else None
        self.scales = nn.Parameter(torch.ones(config.layers)) if config.prompt_scale else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if config.image_prompts == "query":
                self.visual_query = _visual_query(config, llama.hidden_size)
            elif config.image_size:
                width = max(config.image_pieces, default=config.image_size)
                self.projection = VisualProjection(width, config.bottleneck, llama.hidden_size, tiled)
            if config.tunes_weights:
                self.tuning = _weight_tuning(config, llama)

    @property
    def first_changed_layer(self) -> int:
        """Layers below this one compute what the base model does; their output can be kept."""
        return self.first_layer if self.tuning is None else 0

    @property
    def ungated(self) -> str | None:
        """Why gates of 0 would not leave the base model; None where they do."""
        if self.gates is None:
            return "the adapter has random-init attention, whose prompts stand behind no gate"
        return (
            None if self.tuning is None else "the adapter also changes weights of the model, which no gate holds back"
        )

    def tuned(self, llama: Llama) -> Llama:
        """Return the model that the adapter's prefixes are for: ``llama``, or one that shares its weights.

        The frozen model itself stays as it is, bit for bit.
        """
        if self.tuning is None:
            return llama
        from mm_adapter.adapter.weight_tuning import tuned

        return tuned(llama, self.tuning)

    def prefixes(
        self, llama: Llama, image_features: Tensor | None = None, has_image: Tensor | None = None
    ) -> list[Prefix | None]:
        """Return the prefix of every decoder layer, None below the first adapted one.

        Prompt keys and values go through the layer's own frozen projections, with no norm before and no rotary
        embedding after. A projection is linear, so the image vector and the prompts are projected apart: the same
        numbers as projecting ``P_l + I_p`` of every sample, for B + K rows instead of B x K.

        Args:
            llama: the frozen model, or the one that ``tuned`` returned.
            image_features: ``(B, F)``, or tokens ``(B, T, E)`` with ``image_prompts`` query; None where no sample has a
                picture.
            has_image: ``(B,)`` bool; samples without a picture use the prompts alone. None: all have one.

        Raises:
            UserError: image features for a text-only adapter, or of the wrong width.
        """
        image = self._image_vectors(image_features, has_image)  # (B, D), (B, K, D) or (B, P, D)
        result: list[Prefix | None] = [None] * self.first_layer
        for index in range(self.config.layers):
            attention: Attention = llama.layers[self.first_layer + index].attention  # type: ignore[assignment]
            build: Callable[[], GatedPrefix | JoinedPrefix | SummedPrefix]
            if self.places is None or image is None:
                build = partial(self._prefix, index, attention, image, llama.dtype)
            else:
                build = partial(self._with_tiles, index, attention, image, has_image, llama.dtype)
            result.append(DeferredPrefix(build) if llama.sharded else build())
        return result

    def _with_tiles(
        self, index: int, attention: Attention, pieces: Tensor, has_image: Tensor | None, dtype: torch.dtype
    ) -> SummedPrefix:
        """Join the prompts of adapted layer ``index`` and the pieces of pictures ``(B, P, D)``, each behind a gate."""
        assert self.places is not None
        assert self.image_gates is not None
        of_text = self._prefix(index, attention, None, dtype)
        assert isinstance(of_text, GatedPrefix)
        prompts = self.places[index] + pieces  # (B, P, D)
        keys, _ = project_prompts(attention, attention.key, prompts, None, dtype)
        values, _ = project_prompts(attention, attention.value, prompts, None, dtype)
        if has_image is not None:  # attention to values of zero adds nothing
            values = values * has_image.view(-1, 1, 1, 1).to(values.dtype)
        tanh_gate = self.config.gate_activation == "tanh"
        return SummedPrefix(of_text, GatedPrefix(keys, values, self.image_gates[index], tanh_gate=tanh_gate))

    def _prefix(
        self, index: int, attention: Attention, image: Tensor | None, dtype: torch.dtype
    ) -> GatedPrefix | JoinedPrefix:
        """Project the prompts of adapted layer ``index`` and the pictures' vectors ``(B, D)`` or ``(B, K, D)``."""
        prompts, tanh_gate = self.prompts[index], self.config.gate_activation == "tanh"
        scale = None if self.scales is None else self.scales[index]
        if image is not None and image.ndim == 3:
            prompts, image = prompts + image, None  # (B, K, D)
        if self.gates is not None and self.config.prompt_heads == "litgpt-0.5.5":
            keys, values = litgpt_heads(attention, prompts.to(dtype))
            return GatedPrefix(keys, values, self.gates[index], tanh_gate=tanh_gate)
        # Of the prompts (1 or B, Hkv, K, head_dim), of the pictures' vectors (B, Hkv, 1, head_dim).
        values, image_values = project_prompts(attention, attention.value, prompts, image, dtype)
        if self.gates is not None:
            keys, _ = project_prompts(attention, attention.key, prompts, None, dtype)
            return GatedPrefix(keys, values, self.gates[index], image_values, tanh_gate, scale)
        keys, image_keys = project_prompts(attention, attention.key, prompts, image, dtype)
        if image_keys is not None and image_values is not None:
            keys, values = keys + image_keys, values + image_values
        return JoinedPrefix(keys, values)

    def _image_vectors(self, image_features: Tensor | None, has_image: Tensor | None) -> Tensor | None:
        if image_features is None:
            return None
        project = self.projection if self.visual_query is None else self.visual_query
        if project is None:
            raise UserError(
                "this adapter is text-only: it was trained without a vision tower and cannot see a picture."
            )
        if image_features.ndim != (2 if self.visual_query is None else 3):
            wanted = "global features (B, F)" if self.visual_query is None else "tokens of pictures (B, T, E)"
            raise UserError(f"image features have shape {tuple(image_features.shape)}, the adapter takes {wanted}.")
        if image_features.shape[-1] != self.config.image_size:
            raise UserError(
                f"image features have width {image_features.shape[-1]}, the adapter was trained on "
                f"{self.config.image_size}; use the tower and scales that it was trained with."
            )
        image_features = image_features.to(self.prompts.dtype)
        if self.places is not None:
            image_features = _pieces(image_features, self.config.image_pieces)  # (B, P, E)
        vectors: Tensor = project(image_features)  # (B, D), (B, K, D) or (B, P, D)
        if has_image is None or self.places is not None:
            return vectors
        return vectors * has_image.view(-1, *(1 for _ in vectors.shape[1:])).to(vectors.dtype)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained tensors by kind: ``prompts``, ``gates``, ``projection``, ...; without absent kinds."""
        groups: dict[str, Iterable[nn.Parameter]] = {
            "prompts": [self.prompts],
            "gates": [gates for gates in (self.gates, self.image_gates) if gates is not None],
            "places": [] if self.places is None else [self.places],
            "projection": [] if self.projection is None else self.projection.parameters(),
            "visual query": [] if self.visual_query is None else self.visual_query.parameters(),
            "scales": [] if self.scales is None else [self.scales],
            "tuning": [] if self.tuning is None else self.tuning.parameters(),
        }
        return {kind: members for kind, group in groups.items() if (members := list(group))}


def _pieces(features: Tensor, widths: tuple[int, ...]) -> Tensor:
    """Split features ``(B, F)`` into P pieces, each filled up with zeros to the widest: ``(B, P, E)``."""
    widest = max(widths)
    parts = [F.pad(part, (0, widest - part.shape[1])) for part in features.split(list(widths), dim=1)]
    return torch.stack(parts, dim=1)


def _visual_query(config: AdapterConfig, hidden_size: int) -> "VisualQuery":
    # Imported here, as below: a V1 adapter needs neither.
    from mm_adapter.adapter.visual_query import VisualQuery

    shape = config.query_width, config.query_blocks, config.query_heads, config.query_inner, config.query_epsilon
    return VisualQuery(config.image_size, config.prompt_length, hidden_size, *shape)


def _weight_tuning(config: AdapterConfig, llama: LlamaConfig) -> "WeightTuning":
    from mm_adapter.adapter.weight_tuning import WeightTuning

    return WeightTuning(llama, config.biases, config.norms, config.lora_rank, config.output_scales)
