"""Attention to adaption prompts: gated with a softmax of its own, or joined to the text's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from mm_adapter.llama.attention import Attention, AttentionPrefix, Mask, attend
from mm_adapter.llama.packing import Packing


def zero_init_attention(
    q: Tensor, k: Tensor, v: Tensor, prompt_keys: Tensor, prompt_values: Tensor, gate: Tensor
) -> Tensor:
    """``softmax(q k) v + tanh(g) softmax(q P_k) P_v``: the reference that tests hold ``GatedPrefix`` to.

    LLaMA-Adapter (arXiv 2303.16199), section 3.2. Shapes: ``q, k, v`` ``(B, H, T, d)``, ``prompt_keys, prompt_values``
    ``(B, H, K, d)``, ``gate`` ``(H,)``, result ``(B, H, T, d)``. Queries and keys of the text are rotated, those of the
    prompts are not.
    """
    scale = q.shape[-1] ** -0.5
    causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()  # (T, T)
    to_text = (scale * q @ k.transpose(-1, -2)).masked_fill(~causal, float("-inf"))  # (B, H, T, T)
    to_prompts = scale * q @ prompt_keys.transpose(-1, -2)  # (B, H, T, K)
    gated = gate.tanh()[:, None, None] * (to_prompts.softmax(dim=-1) @ prompt_values)  # (B, H, T, d)
    return to_text.softmax(dim=-1) @ v + gated


@dataclass(frozen=True)
class GatedPrefix:
    """Attention of text queries to a layer's adaption prompts, scaled by a zero-initialised gate.

    LLaMA-Adapter (arXiv 2303.16199), section 3.2: an independent softmax over the prompts, times ``tanh(gate)``
    per head. The prompt keys carry no rotary embedding.

    A picture's vector is added to all K prompts alike. It shifts every prompt's score by the same amount, which a
    softmax does not see, and every value by the same vector, which a softmax hands on whole. So it is added to the
    outcome, and the prompts' own keys and values serve the whole batch of a training step. Where tokens are written one
    by one, it is added to the values instead, once: what depends on the prefix alone is computed with the first token.
    Where every prompt has its own vector of a picture, keys and values are those of the sums, sample by sample.

    Attributes:
        keys, values: ``(1 or B, Hkv, K, head_dim)``; of the prompts alone where there are ``image_values``.
        gate: ``(H,)``.
        image_values: ``(B or 1, Hkv, 1, head_dim)``, of the pictures' vectors; None without pictures.
        tanh_gate: pass the gate through tanh, as the method does; adapters of other projects may not.
        scale: a further factor of all heads, ``()``; None for 1.
    """

    keys: Tensor
    values: Tensor
    gate: Tensor
    image_values: Tensor | None = None
    tanh_gate: bool = True
    scale: Tensor | None = None

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Return attention to the text plus the gated attention to the prompts, ``(B, H, T, head_dim)``."""
        to_text = attend(queries, keys, values, mask, causal)  # (B, H, T, head_dim)
        return torch.addcmul(to_text, self.strength, self.attend_to_prompts(queries, mask))

    def attend_to_prompts(self, queries: Tensor, mask: Mask) -> Tensor:
        """Return the attention to the prompts, not yet gated, ``(B, H, T, head_dim)``."""
        if isinstance(mask, Packing) and self.keys.shape[0] > 1:
            blocks = zip(mask.split(queries), mask.members, strict=True)
            return mask.join([attend(own, self.keys[of], self.values[of], None, False) for own, of in blocks])
        batch = queries.shape[0]
        prompt_values = self.values if isinstance(mask, Packing) else self.shifted_values
        to_prompts = attend(
            queries, self.keys.expand(batch, -1, -1, -1), prompt_values.expand(batch, -1, -1, -1), None, False
        )  # (B, H, T, head_dim)
        if isinstance(mask, Packing) and self.image_values is not None:
            shift = self.image_values
            if shift.shape[0] > 1:
                # The picture of each token's own sequence, (1, Hkv, N, head_dim); a single one is of all sequences.
                shift = shift[:, :, 0].index_select(0, mask.segment_ids).transpose(0, 1)[None]
            to_prompts = to_prompts + shift.repeat_interleave(queries.shape[1] // shift.shape[1], dim=1)
        return to_prompts

    @cached_property
    def strength(self) -> Tensor:
        """What the attention to the prompts is multiplied by, ``(1, H, 1, 1)``."""
        gate = self.gate.float().tanh() if self.tanh_gate else self.gate.float()
        gate = gate if self.scale is None else self.scale.float() * gate
        return gate.to(self.values.dtype).view(1, -1, 1, 1)

    def scaled(self, factor: float) -> "GatedPrefix":
        """Return the prefix with what it adds multiplied by ``factor``; at 0 it adds nothing, bit for bit."""
        before = 1.0 if self.scale is None else self.scale
        return replace(self, scale=torch.as_tensor(factor * before, device=self.gate.device))

    @cached_property
    def shifted_values(self) -> Tensor:
        """The values with the pictures' vectors added, ``(B or 1, Hkv, K, head_dim)``."""
        return self.values if self.image_values is None else self.values + self.image_values


@dataclass(frozen=True)
class SummedPrefix:
    """Attention to adaption prompts and to the pieces of a picture, each with a softmax and a gate of its own.

    Attributes:
        prompts: of the layer.
        pieces: of the sample's picture.
    """

    prompts: GatedPrefix
    pieces: GatedPrefix

    def __copy__(self) -> "SummedPrefix":
        # A layer that is computed again on the way back takes a copy, so that it makes the same graph again: what the
        # parts keep from their first use must not be there.
        return SummedPrefix(replace(self.prompts), replace(self.pieces))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Return attention to the text plus both gated attentions, ``(B, H, T, head_dim)``."""
        to_text = self.prompts.attend(queries, keys, values, mask, causal)  # (B, H, T, head_dim)
        return torch.addcmul(to_text, self.pieces.strength, self.pieces.attend_to_prompts(queries, mask))

    def scaled(self, factor: float) -> "SummedPrefix":
        """Return both with what they add multiplied by ``factor``."""
        return SummedPrefix(self.prompts.scaled(factor), self.pieces.scaled(factor))


@dataclass(frozen=True)
class JoinedPrefix:
    """Adaption prompts as further keys of the ordinary softmax: the paper's random-init baseline (its Table 5).

    Attributes:
        keys, values: ``(B or 1, Hkv, K, head_dim)``.
    """

    keys: Tensor
    values: Tensor

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Return one softmax over prompts and text, ``(B, H, T, head_dim)``."""
        if isinstance(mask, Packing):
            blocks = zip(mask.split(queries), mask.split(keys), mask.split(values), mask.masks, strict=True)
            own = [self._of(members) for members in mask.members]
            parts = [prefix.attend(*block, block[-1] is None) for prefix, block in zip(own, blocks, strict=True)]
            return mask.join(parts)
        batch, new, seen = queries.shape[0], queries.shape[2], keys.shape[2]
        if mask is None:
            mask = torch.ones(1, 1, new, seen, dtype=torch.bool, device=queries.device)
            mask = mask.tril(seen - new) if causal else mask
        visible = torch.ones(*mask.shape[:-1], self.keys.shape[2], dtype=torch.bool, device=queries.device)
        keys = torch.cat((self.keys.expand(batch, -1, -1, -1), keys), dim=2)  # (B, Hkv, K + S, head_dim)
        values = torch.cat((self.values.expand(batch, -1, -1, -1), values), dim=2)  # (B, Hkv, K + S, head_dim)
        return attend(queries, keys, values, torch.cat((visible, mask), dim=-1), False)

    def _of(self, members: Tensor) -> "JoinedPrefix":
        return self if self.keys.shape[0] == 1 else JoinedPrefix(self.keys[members], self.values[members])


class DeferredPrefix:
    """A prefix that is projected when its layer runs: only then are the weights of that layer there.

    Args:
        build: makes the prefix.
    """

    def __init__(self, build: Callable[[], GatedPrefix | JoinedPrefix | SummedPrefix]) -> None:
        self._build = build
        self._built: GatedPrefix | JoinedPrefix | SummedPrefix | None = None

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Attend as the prefix does."""
        if torch.is_grad_enabled():
            # A layer that is computed again on the way back must make the same graph again.
            return self._build().attend(queries, keys, values, mask, causal)
        if self._built is None:
            self._built = self._build()
        return self._built.attend(queries, keys, values, mask, causal)


Prefix = GatedPrefix | JoinedPrefix | SummedPrefix | DeferredPrefix


def scale_gates(prefixes: Sequence[AttentionPrefix | None], factor: float) -> list[AttentionPrefix | None]:
    """Return the prefixes of every layer with what gated ones add multiplied by ``factor``; 1 changes nothing."""
    if factor == 1:
        return list(prefixes)
    return [part.scaled(factor) if isinstance(part, GatedPrefix | SummedPrefix) else part for part in prefixes]


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


def project_prompts(
    attention: Attention, linear: nn.Linear, prompts: Tensor, image: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Project prompts ``(K, D)`` and image vectors ``(B, D)`` to ``(1, Hkv, K, head_dim)``, ``(B, Hkv, 1, head_dim)``.

    Prompts ``(B, K, D)`` hold their image vectors already. They go through the frozen projection without an adapter's
    update of it. The bias, where there is one, is the prompts' alone: it belongs once to their sum.
    """
    linear = getattr(linear, "frozen", linear)
    if image is None:
        projected = linear(prompts.to(dtype))
        return attention.split_heads(projected if projected.ndim == 3 else projected[None]), None
    of_prompts, of_image = linear(torch.cat((prompts, image)).to(dtype)).split((len(prompts), len(image)))
    if linear.bias is not None:
        of_image = of_image - linear.bias
    return attention.split_heads(of_prompts[None]), attention.split_heads(of_image[:, None])
