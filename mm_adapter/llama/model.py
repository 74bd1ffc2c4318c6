"""The LLaMA decoder in plain PyTorch: frozen here, adapted from outside through prefixes."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mm_adapter.core.errors import UserError
from mm_adapter.llama.attention import Attention, AttentionPrefix, LayerCache, Mask, rotary_frequencies, rotary_tables
from mm_adapter.llama.config import LlamaConfig


def checkpointed(layer: nn.Module, hidden_states: Tensor, rotary: Any, mask: Any, prefix: Any, wanted: Any) -> Tensor:
    """Run a ``DecoderLayer`` so that what it computes is not kept, but computed again on the way back.

    The same numbers and gradients, bit for bit: nothing in a layer is random. The graph of what the prefix was made of
    lies outside the layer and is kept.

    Args:
        layer: whose ``forward`` takes the other arguments; without a cache, into which it would write twice.
    """

    def run(hidden_states: Tensor) -> Tensor:
        # What a prefix keeps from its first use would be there the second time, and the two runs would not be alike.
        return layer(hidden_states, rotary, mask, copy.copy(prefix), None, wanted)

    return checkpoint(run, hidden_states, use_reentrant=False, preserve_rng_state=False)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (arXiv 1910.07467), computed in float32 whatever the weights' dtype."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise the last axis of ``(..., D)``."""
        return _Normalised.apply(hidden_states, self.weight, self.epsilon)


class _Normalised(torch.autograd.Function):
    """RMSNorm that keeps its input and a scale per row, in place of every step in between."""

    @staticmethod
    def forward(ctx: Any, hidden_states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = hidden_states.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)  # (..., 1)
        ctx.save_for_backward(hidden_states, scale, weight)
        return (wide * scale).to(hidden_states.dtype) * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden_states, scale, weight = ctx.saved_tensors
        normed = hidden_states.float() * scale
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient * normed.to(gradient.dtype)).flatten(0, -2).sum(0)
        wide = (gradient * weight).float()
        shared = (wide * normed).mean(-1, keepdim=True)
        return torch.addcmul(wide, normed, shared, value=-1).mul_(scale).to(gradient.dtype), of_weight, None


class _GatedProduct(torch.autograd.Function):
    """``silu(gate) * up`` that keeps its two inputs alone: the widest tensors of a layer are a third fewer."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return of_gate, F.silu(gate).mul_(gradient)


class SwiGLU(nn.Module):
    """Gated feed-forward network (arXiv 2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, T, D)``."""
        return self.down(_GatedProduct.apply(self.gate(hidden_states), self.up(hidden_states)))


class DecoderLayer(nn.Module):
    """Attention and feed-forward network, each normalised first and added to the residual stream."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        hidden_states: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Mask = None,
        prefix: AttentionPrefix | None = None,
        cache: LayerCache | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, T, D)``, or to ``(B, U, D)`` where only positions ``wanted`` ``(U,)`` are."""
        normed = self.attention_norm(hidden_states)  # (B, T, D)
        if wanted is not None:
            hidden_states = hidden_states.index_select(1, wanted)  # (B, U, D)
        hidden_states = hidden_states + self.attention(normed, rotary, mask, prefix, cache, wanted)
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class Embedding(nn.Embedding):
    """One row per token of the vocabulary; zeros, since weights are read from files."""

    def __init__(self, config: LlamaConfig) -> None:
        # The usual random draw costs 2.6 s of imports on the meta device.
        rows = torch.zeros(config.vocab_size, config.hidden_size)
        super().__init__(config.vocab_size, config.hidden_size, _weight=rows)

    def scores(self, hidden_states: Tensor) -> Tensor:
        """Return the logits ``(..., V)`` of ``(..., D)``, for models whose head is their embedding."""
        return F.linear(hidden_states, self.weight)


class KVCache:
    """One ``LayerCache`` per layer, for generation."""

    def __init__(self, layers: Sequence[LayerCache]) -> None:
        self.layers = list(layers)

    @property
    def length(self) -> int:
        """Positions stored so far."""
        return self.layers[0].length

    def advance(self, length: int) -> None:
        """Take the first ``length`` positions of every buffer for filled."""
        for layer in self.layers:
            layer.length = length

    def truncate(self, length: int) -> None:
        """Forget the positions from ``length`` on."""
        # All the same length: a pass that was interrupted has filled the lower layers alone.
        length = min(length, *(layer.length for layer in self.layers))
        for layer in self.layers:
            layer.length = length


Prefixes = Sequence[AttentionPrefix | None]


class Llama(nn.Module):
    """Decoder-only transformer of the LLaMA family.

    Shapes:
        tokens: ``(B, T)`` int64; positions ``(T,)`` or ``(B, T)`` int64, 0 to T-1 by default.
        mask: bool ``(B, 1, T, S)``, true where a query may look; or a ``Packing`` of the T tokens of a batch of one, in
            which sequences lie one after another; None for plain causal attention.
        prefixes: one entry per layer, None where the layer is not adapted.
        logits: ``(B, T, V)``.

    Attributes:
        gradient_checkpointing: where gradients are wanted, keep only what enters each layer, and compute the rest again
            on the way back (arXiv 1604.06174).
    """

    frequencies: Tensor

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.sharded = False  # among ranks: a layer's weights are whole within its own pass alone
        self.gradient_checkpointing = False
        self.embedding = Embedding(config)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        if not config.tied_embeddings:
            self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("frequencies", rotary_frequencies(config), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights that are not quantised, and of the residual stream."""
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where is computed."""
        return self.norm.weight.device

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """Return an empty cache for ``batch`` sequences of up to ``capacity`` positions."""
        shape = (batch, self.config.num_kv_heads, capacity, self.config.head_dim)
        kind: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
        return KVCache(
            [LayerCache(torch.zeros(shape, **kind), torch.zeros(shape, **kind)) for _ in range(self.config.num_layers)]
        )

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rotation tables of ``positions`` ``(T,)`` or ``(B, T)``."""
        return rotary_tables(positions, self.frequencies, self.dtype)

    def _check_positions(self, positions: Tensor) -> None:
        limit = self.config.position_limit
        if limit is not None and positions.numel() and int(positions.max()) >= limit:
            raise UserError(
                f"a sequence of {int(positions.max()) + 1} tokens: this model is computed up to {limit}; its sliding "
                "window or dynamic rotary scaling beyond them is not supported. Shorten the sequence."
            )

    def run_layers(
        self,
        hidden_states: Tensor,
        positions: Tensor,
        mask: Mask = None,
        prefixes: Prefixes | None = None,
        cache: KVCache | None = None,
        first: int = 0,
        last: int | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Pass ``(B, T, D)`` through layers ``first`` to ``last`` (exclusive; default all), without the final norm.

        Args:
            wanted: ``(U,)`` int64, positions whose output is needed, None for all: the last layer computes no other.

        Returns:
            ``(B, T, D)``, or ``(B, U, D)``.

        Raises:
            UserError: a position lies where the model would compute something else, see ``LlamaConfig.position_limit``.
        """
        self._check_positions(positions)
        if mask is None and cache is not None and cache.length and hidden_states.shape[1] > 1:
            mask = _continuation_mask(cache.length, hidden_states)
        rotary = self.rotary(positions)
        last = self.config.num_layers if last is None else last
        for index in range(first, last):
            prefix = None if prefixes is None else prefixes[index]
            layer_cache = None if cache is None else cache.layers[index]
            chosen = wanted if index == last - 1 else None
            layer = self.layers[index]
            if self.gradient_checkpointing and cache is None and torch.is_grad_enabled():
                hidden_states = checkpointed(layer, hidden_states, rotary, mask, prefix, chosen)
            else:
                hidden_states = layer(hidden_states, rotary, mask, prefix, layer_cache, chosen)
        return hidden_states

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Turn the last layer's output ``(..., D)`` into next-token logits ``(..., V)``."""
        normed = self.norm(hidden_states)
        return self.embedding.scores(normed) if self.config.tied_embeddings else self.head(normed)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Mask = None,
        prefixes: Prefixes | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Return next-token logits ``(B, T, V)``."""
        if positions is None:
            start = 0 if cache is None else cache.length
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        hidden_states = self.run_layers(self.embedding(tokens), positions, mask, prefixes, cache)  # (B, T, D)
        return self.logits(hidden_states)


def _continuation_mask(past: int, hidden_states: Tensor) -> Tensor:
    # Without it the fused kernel would align several new tokens with the first cached ones.
    new = hidden_states.shape[1]
    mask = torch.ones(new, past + new, dtype=torch.bool, device=hidden_states.device)
    return mask.tril(past)[None, None]
