"""The trainable part: adaption prompts, gates and the visual projection. Knows nothing of where questions come from."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mm_adapter.adapter.attention import DeferredPrefix, GatedPrefix, JoinedPrefix, Prefix
from mm_adapter.core.errors import UserError
from mm_adapter.llama.attention import Attention
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.model import Llama

KINDS = {
    "attention": ("zero-init", "random-init"),
    "gate_activation": ("tanh", "none"),
    "prompt_heads": ("own", "litgpt-0.5.5"),
}


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
    """

    layers: int = 30
    prompt_length: int = 10
    attention: str = "zero-init"
    image_size: int = 0
    bottleneck: int = 128
    gate_activation: str = "tanh"
    prompt_heads: str = "own"

    def __post_init__(self) -> None:
        for name, known in KINDS.items():
            if getattr(self, name) not in known:
                raise UserError(f"adapter {name} {getattr(self, name)!r} is not known; {' and '.join(known)} are.")
        if self.prompt_heads != "own" and (self.image_size or self.attention != "zero-init"):
            raise UserError(f"adapter: prompt_heads {self.prompt_heads} goes with text-only zero-init attention alone.")
        if self.layers < 1 or self.prompt_length < 1 or self.bottleneck < 1 or self.image_size < 0:
            raise UserError("adapter: layers, prompt_length and bottleneck must be positive, image_size not negative.")


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
        projection: ``VisualProjection``; absent in a text-only adapter.
    """

    gates: nn.Parameter | None
    projection: VisualProjection | None

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
        self.projection = None
        if config.image_size:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.projection = VisualProjection(config.image_size, config.bottleneck, llama.hidden_size)

    def prefixes(
        self, llama: Llama, image_features: Tensor | None = None, has_image: Tensor | None = None
    ) -> list[Prefix | None]:
        """Return the prefix of every decoder layer, None below the first adapted one.

        Prompt keys and values go through the layer's own frozen projections, with no norm before and no rotary
        embedding after. A projection is linear, so the image vector and the prompts are projected apart: the same
        numbers as projecting ``P_l + I_p`` of every sample, for B + K rows instead of B x K.

        Args:
            llama: the frozen model.
            image_features: ``(B, F)``; None where no sample has a picture.
            has_image: ``(B,)`` bool; samples without a picture use the prompts alone. None: all have one.

        Raises:
            UserError: image features for a text-only adapter, or of the wrong width.
        """
        image = self._image_vectors(image_features, has_image)  # (B, D)
        result: list[Prefix | None] = [None] * self.first_layer
        for index in range(self.config.layers):
            attention: Attention = llama.layers[self.first_layer + index].attention  # type: ignore[assignment]
            build = partial(self._prefix, index, attention, image, llama.dtype)
            result.append(DeferredPrefix(build) if llama.sharded else build())
        return result

    def _prefix(
        self, index: int, attention: Attention, image: Tensor | None, dtype: torch.dtype
    ) -> GatedPrefix | JoinedPrefix:
        """Project the prompts of adapted layer ``index`` and the pictures' vectors ``(B, D)``."""
        prompts, tanh_gate = self.prompts[index], self.config.gate_activation == "tanh"
        if self.gates is not None and self.config.prompt_heads == "litgpt-0.5.5":
            keys, values = litgpt_heads(attention, prompts.to(dtype))
            return GatedPrefix(keys, values, self.gates[index], tanh_gate=tanh_gate)
        # Of the prompts (1, Hkv, K, head_dim), of the pictures' vectors (B, Hkv, 1, head_dim).
        values, image_values = _project(attention, attention.value, prompts, image, dtype)
        if self.gates is not None:
            keys, _ = _project(attention, attention.key, prompts, None, dtype)
            return GatedPrefix(keys, values, self.gates[index], image_values, tanh_gate)
        keys, image_keys = _project(attention, attention.key, prompts, image, dtype)
        if image_keys is not None and image_values is not None:
            keys, values = keys + image_keys, values + image_values
        return JoinedPrefix(keys, values)

    def _image_vectors(self, image_features: Tensor | None, has_image: Tensor | None) -> Tensor | None:
        if image_features is None:
            return None
        if self.projection is None:
            raise UserError(
                "this adapter is text-only: it was trained without a vision tower and cannot see a picture."
            )
        if image_features.shape[-1] != self.config.image_size:
            raise UserError(
                f"image features have width {image_features.shape[-1]}, the adapter was trained on "
                f"{self.config.image_size}; use the tower and scales that it was trained with."
            )
        vectors = self.projection(image_features.to(self.prompts.dtype))  # (B, D)
        return vectors if has_image is None else vectors * has_image[:, None].to(vectors.dtype)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained tensors by kind: ``prompts``, ``gates``, ``projection``; absent kinds are left out."""
        groups: dict[str, Iterable[nn.Parameter]] = {
            "prompts": [self.prompts],
            "gates": [] if self.gates is None else [self.gates],
            "projection": [] if self.projection is None else self.projection.parameters(),
        }
        return {kind: members for kind, group in groups.items() if (members := list(group))}


def litgpt_heads(attention: Attention, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Return prompt keys and values ``(1, Hkv, K, head_dim)`` of prompts ``(K, D)`` as litgpt takes them since 0.5.5.

    Its joint projection gives the heads of all queries, then of all keys, then of all values. Text is split so;
    prompts still are as in earlier versions, where queries, key and value of each group stood side by side. Hence a
    prompt's "keys" and "values" are, for the most part, query heads; adapters trained so need them so.
    """
    projections = (attention.query, attention.key, attention.value)
    heads = torch.cat([attention.split_heads(linear(prompts)[None]) for linear in projections], dim=1)
    groups = attention.key.out_features // attention.head_dim
    by_group = heads.unflatten(1, (groups, -1))  # (1, Hkv, H / Hkv + 2, K, head_dim)
    return by_group[:, :, -2], by_group[:, :, -1]


def _project(
    attention: Attention, linear: nn.Linear, prompts: Tensor, image: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Project prompts ``(K, D)`` and image vectors ``(B, D)`` to ``(1, Hkv, K, head_dim)``, ``(B, Hkv, 1, head_dim)``.

    The bias, where there is one, is the prompts' alone: it belongs once to their sum.
    """
    if image is None:
        return attention.split_heads(linear(prompts.to(dtype))[None]), None
    of_prompts, of_image = linear(torch.cat((prompts, image)).to(dtype)).split((len(prompts), len(image)))
    if linear.bias is not None:
        of_image = of_image - linear.bias
    return attention.split_heads(of_prompts[None]), attention.split_heads(of_image[:, None])
