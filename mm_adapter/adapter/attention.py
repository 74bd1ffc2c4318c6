"""Attention to adaption prompts: gated with a softmax of its own, or joined to the text's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mm_adapter.llama.attention import attend


@dataclass(frozen=True)
class GatedPrefix:
    """Attention of text queries to a layer's adaption prompts, scaled by a zero-initialised gate.

    LLaMA-Adapter (arXiv 2303.16199), section 3.2: an independent softmax over the prompts, times ``tanh(gate)``
    per head. The prompt keys carry no rotary embedding.

    Attributes:
        keys, values: ``(B or 1, Hkv, K, head_dim)``.
        gate: ``(H,)``, before tanh.
    """

    keys: Tensor
    values: Tensor
    gate: Tensor

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Return attention to the text plus the gated attention to the prompts, ``(B, H, T, head_dim)``."""
        to_text = attend(queries, keys, values, mask, causal)
        to_prompts = attend(queries, *self._for_batch(queries.shape[0]), None, False)
        strength = self.gate.float().tanh().to(queries.dtype).view(1, -1, 1, 1)
        return torch.addcmul(to_text, strength, to_prompts)

    def _for_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        return self.keys.expand(batch, -1, -1, -1), self.values.expand(batch, -1, -1, -1)


@dataclass(frozen=True)
class JoinedPrefix:
    """Adaption prompts as further keys of the ordinary softmax: the paper's random-init baseline (its Table 5).

    Attributes:
        keys, values: ``(B or 1, Hkv, K, head_dim)``.
    """

    keys: Tensor
    values: Tensor

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Return one softmax over prompts and text, ``(B, H, T, head_dim)``."""
        batch, new, seen = queries.shape[0], queries.shape[2], keys.shape[2]
        if mask is None:
            mask = torch.ones(1, 1, new, seen, dtype=torch.bool, device=queries.device)
            mask = mask.tril(seen - new) if causal else mask
        visible = torch.ones(*mask.shape[:-1], self.keys.shape[2], dtype=torch.bool, device=queries.device)
        keys = torch.cat((self.keys.expand(batch, -1, -1, -1), keys), dim=2)
        values = torch.cat((self.values.expand(batch, -1, -1, -1), values), dim=2)
        return attend(queries, keys, values, torch.cat((visible, mask), dim=-1), False)


Prefix = GatedPrefix | JoinedPrefix
