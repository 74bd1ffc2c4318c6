"""The trainable part: adaption prompts, gates and the visual projection. Knows nothing of where questions come from."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mm_adapter.adapter.attention import (
    DeferredPrefix,
    GatedPrefix,
    JoinedPrefix,
    Prefix,
    litgpt_heads,
    project_prompts,
)
from mm_adapter.core.errors import UserError
from mm_adapter.llama.attention import Attention
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.model import Llama

if TYPE_CHECKING:
    from mm_adapter.adapter.visual_query import VisualQuery
    from mm_adapter.adapter.weight_tuning import WeightTuning

KINDS = {
    "attention": ("zero-init", "random-init"),
    "gate_activation": ("tanh", "none"),
    "prompt_heads": ("own", "litgpt-0.5.5"),
    "image_prompts": ("shared", "query"),
    "no_image": ("prompts", "zero-picture"),
}

_LARGEST, _MOST_BLOCKS = 1 << 32, 1000  # no published size is near them; a damaged file's sizes usually are beyond


@dataclass(frozen=True)
class AdapterConfig:
    """Shape and kind of a LLaMA-Adapter.

    Attributes:
        layers: topmost decoder layers that are adapted, L.
        prompt_length: adaption prompts of each layer, K.
        attention: ``zero-init`` (separate softmax behind a gate, the method) or ``random-init`` (prompt keys join the
            ordinary softmax without a gate, the paper's ablation).
        image_size: width of the image features, 0 for a text-only adapter.
        bottleneck: width inside the visual projection.
        gate_activation: ``tanh`` (the method) or ``none``: the gate multiplies as it is (PEFT, litgpt, the inference
            code of the original).
        prompt_heads: ``own`` (prompts go through the layer's key and value projections, the method) or
            ``litgpt-0.5.5``: through whichever heads litgpt takes since that version, see ``litgpt_heads``.
        image_prompts: ``shared`` (a picture is one vector, added to all prompts: V1) or ``query`` (one vector for each
            prompt, by learned queries over the tower's tokens: the multimodal V2, arXiv 2304.15010).
        query_width, query_blocks, query_heads, query_inner, query_epsilon: of ``VisualQuery`` and its blocks.
        no_image: what stands for a missing picture: ``prompts`` (the prompts alone) or ``zero-picture`` (a picture of
            zeros, as the tower sees them after normalisation).
        prompt_scale: the attention to the prompts has a factor of its own in each layer, besides the gate.
        biases, norms, lora_rank: what of the frozen model the adapter brings along, see ``WeightTuning``.
    """

    layers: int = 30
    prompt_length: int = 10
    attention: str = "zero-init"
    image_size: int = 0
    bottleneck: int = 128
    gate_activation: str = "tanh"
    prompt_heads: str = "own"
    image_prompts: str = "shared"
    query_width: int = 768
    query_blocks: int = 8
    query_heads: int = 16
    query_inner: int = 3072
    query_epsilon: float = 1e-5
    no_image: str = "prompts"
    prompt_scale: bool = False
    biases: bool = False
    norms: bool = False
    lora_rank: int = 0

    def __post_init__(self) -> None:
        for name, known in KINDS.items():
            if getattr(self, name) not in known:
                raise UserError(f"adapter {name} {getattr(self, name)!r} is not known; {' and '.join(known)} are.")
        if self.prompt_heads != "own" and (self.image_size or self.attention != "zero-init"):
            raise UserError(f"adapter: prompt_heads {self.prompt_heads} goes with text-only zero-init attention alone.")
        if self.layers < 1 or self.prompt_length < 1 or self.bottleneck < 1 or self.image_size < 0:
            raise UserError("adapter: layers, prompt_length and bottleneck must be positive, image_size not negative.")
        sizes = (self.layers, self.prompt_length, self.bottleneck, self.image_size, self.query_width, self.query_inner)
        if max(sizes) > _LARGEST:
            raise UserError(f"adapter: a size of {max(sizes)}; none is above {_LARGEST}.")
        if self.image_prompts == "query" and (not self.image_size or self.attention != "zero-init"):
            raise UserError("adapter: image_prompts query goes with pictures and zero-init attention alone.")
        if self.prompt_scale and self.attention != "zero-init":
            raise UserError("adapter: prompt_scale goes with zero-init attention alone.")
        if min(self.query_width, self.query_heads, self.query_inner) < 1 or self.query_width % self.query_heads:
            raise UserError(
                f"adapter: {self.query_heads} query_heads cannot share a query_width of {self.query_width} evenly."
            )
        if not 0 < self.query_epsilon < 1:
            raise UserError(f"adapter: query_epsilon {self.query_epsilon} must be between 0 and 1.")
        if not (0 <= self.lora_rank <= _LARGEST and 0 <= self.query_blocks <= _MOST_BLOCKS):
            raise UserError(f"adapter: lora_rank must not be negative, query_blocks be 0 to {_MOST_BLOCKS}.")

    @property
    def tunes_weights(self) -> bool:
        """The adapter brings biases, norms or low-rank updates of the frozen model along."""
        return self.biases or self.norms or self.lora_rank > 0


class VisualProjection(nn.Module):
    """Bottleneck MLP over concatenated multi-scale global features (LLaMA-Adapter, section 3.3, eq. 6).

    Shapes:
        image_features: ``(B, F)`` float32.
        returns: ``(B, D)`` float32.
    """

    def __init__(self, image_size: int, bottleneck: int, hidden_size: int) -> None:
        super().__init__()
        # Towers differ in scale by orders of magnitude; normalised features let one learning rate serve all.
        self.norm = nn.LayerNorm(image_size)
        self.down = nn.Linear(image_size, bottleneck)
        self.activation = nn.GELU()
        self.up = nn.Linear(bottleneck, hidden_size)

    def forward(self, image_features: Tensor) -> Tensor:
        """Project ``(B, F)`` to ``(B, D)``."""
        hidden = self.activation(self.down(self.norm(image_features)))  # (B, bottleneck)
        return self.up(hidden)  # (B, D)


class Adapter(nn.Module):
    """LLaMA-Adapter (arXiv 2303.16199): all that is trained, all that is saved.

    Attributes:
        prompts: ``(L, K, D)`` float32, drawn from a standard normal.
        gates: ``(L, H)`` float32, zeros; absent with random-init attention.
        projection: ``VisualProjection``; absent in a text-only adapter, and with ``image_prompts`` query.
        visual_query: ``VisualQuery``, with ``image_prompts`` query alone.
        scales: ``(L,)`` float32, ones; with ``prompt_scale`` alone.
        tuning: ``WeightTuning``; absent where the adapter changes no weight of the model.
    """

    gates: nn.Parameter | None
    projection: VisualProjection | None
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
        self.scales = nn.Parameter(torch.ones(config.layers)) if config.prompt_scale else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if config.image_prompts == "query":
                self.visual_query = _visual_query(config, llama.hidden_size)
            elif config.image_size:
                self.projection = VisualProjection(config.image_size, config.bottleneck, llama.hidden_size)
            if config.tunes_weights:
                self.tuning = _weight_tuning(config, llama)

    @property
    def first_changed_layer(self) -> int:
        """Layers below this one compute what the base model does; their output can be kept."""
        return self.first_layer if self.tuning is None else 0

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
        image = self._image_vectors(image_features, has_image)  # (B, D) or (B, K, D)
        result: list[Prefix | None] = [None] * self.first_layer
        for index in range(self.config.layers):
            attention: Attention = llama.layers[self.first_layer + index].attention  # type: ignore[assignment]
            build = partial(self._prefix, index, attention, image, llama.dtype)
            result.append(DeferredPrefix(build) if llama.sharded else build())
        return result

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
        vectors: Tensor = project(image_features.to(self.prompts.dtype))  # (B, D) or (B, K, D)
        if has_image is None:
            return vectors
        return vectors * has_image.view(-1, *(1 for _ in vectors.shape[1:])).to(vectors.dtype)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained tensors by kind: ``prompts``, ``gates``, ``projection``, ...; without absent kinds."""
        groups: dict[str, Iterable[nn.Parameter]] = {
            "prompts": [self.prompts],
            "gates": [] if self.gates is None else [self.gates],
            "projection": [] if self.projection is None else self.projection.parameters(),
            "visual query": [] if self.visual_query is None else self.visual_query.parameters(),
            "scales": [] if self.scales is None else [self.scales],
            "tuning": [] if self.tuning is None else self.tuning.parameters(),
        }
        return {kind: members for kind, group in groups.items() if (members := list(group))}


def _visual_query(config: AdapterConfig, hidden_size: int) -> "VisualQuery":
    # Imported here, as below: a V1 adapter needs neither.
    from mm_adapter.adapter.visual_query import VisualQuery

    shape = config.query_width, config.query_blocks, config.query_heads, config.query_inner, config.query_epsilon
    return VisualQuery(config.image_size, config.prompt_length, hidden_size, *shape)


def _weight_tuning(config: AdapterConfig, llama: LlamaConfig) -> "WeightTuning":
    from mm_adapter.adapter.weight_tuning import WeightTuning

    return WeightTuning(llama, config.biases, config.norms, config.lora_rank)
