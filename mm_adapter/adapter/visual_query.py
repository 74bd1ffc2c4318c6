"""A picture as one vector per prompt: learned queries that look at the tower's tokens (LLaMA-Adapter V2 multimodal)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QueryBlock(nn.Module):
    """Pre-norm transformer block with biases and GELU (arXiv 2010.11929), as timm has it; no positions, no mask.

    Args:
        width: of the residual stream, C.
        heads: of its attention; they share C evenly.
        inner: width inside its feed-forward network.
        epsilon: of its norms.

    Shapes:
        returns and takes: ``(B, S, C)``.
    """

    def __init__(self, width: int, heads: int, inner: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=epsilon)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def _projected(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of ``(B, S, C)``, ``(B, heads, S, C / heads)`` each."""
        # A softmax does not see the bias of keys: its gradient would be rounding, which Adam makes steps of.
        of_queries, of_keys, of_values = self.qkv.bias.chunk(3)
        bias = torch.cat((of_queries, of_keys.detach(), of_values))
        projected = F.linear(self.attention_norm(hidden_states), self.qkv.weight, bias)  # (B, S, 3 * C)
        queries, keys, values = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return queries, keys, values

    def weights(self, hidden_states: Tensor) -> Tensor:
        """Return how each of S looks at each, mean over heads: ``(B, S, S)``; rows add up to 1."""
        queries, keys, _ = self._projected(hidden_states)
        return (queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=1)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map ``(B, S, C)`` to ``(B, S, C)``."""
        queries, keys, values = self._projected(hidden_states)
        mixed = F.scaled_dot_product_attention(queries, keys, values)  # (B, heads, S, C / heads)
        hidden_states = hidden_states + self.output(mixed.transpose(1, 2).flatten(2))
        return hidden_states + self.down(F.gelu(self.up(self.mlp_norm(hidden_states))))


class VisualQuery(nn.Module):
    """Learned queries and a tower's tokens through transformer blocks: a vector for each prompt of a layer.

    The multimodal model of LLaMA-Adapter V2 (arXiv 2304.15010; the original's ``llama_adapter_v2_multimodal7b``).

    Args:
        image_size: width of the tokens, E.
        length: prompts of a layer, K.
        hidden_size: of the language model, D.
        width: inside the blocks, C.
        blocks: how many.
        heads, inner, epsilon: of each, see ``QueryBlock``; the norms before and after them have 1e-5.

    Attributes:
        queries: ``(K, C)``.

    Shapes:
        tokens: ``(B, T, E)`` float32.
        returns: ``(B, K, D)`` float32.
    """

    def __init__(
        self,
        image_size: int,
        length: int,
        hidden_size: int,
        width: int,
        blocks: int,
        heads: int,
        inner: int,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(length, width))
        self.input = nn.Linear(image_size, width)
        self.input_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(QueryBlock(width, heads, inner, epsilon) for _ in range(blocks))
        self.output = nn.Linear(width, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size)

    def looks(self, tokens: Tensor) -> Tensor:
        """Return how each learned query looks at each token, mean over heads and blocks: ``(B, K, T)``.

        Rows add up to less than 1: queries also look at one another.
        """
        length = len(self.queries)
        hidden_states = self._joined(tokens)
        total = hidden_states.new_zeros(len(tokens), length, tokens.shape[1])
        for block in self.blocks:
            assert isinstance(block, QueryBlock)
            total += block.weights(hidden_states)[:, :length, length:]
            hidden_states = block(hidden_states)
        return total / max(1, len(self.blocks))

    def _joined(self, tokens: Tensor) -> Tensor:
        seen = self.input_norm(self.input(tokens))  # (B, T, C)
        return torch.cat((self.queries.expand(len(seen), -1, -1), seen), dim=1)  # (B, K + T, C)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens ``(B, T, E)`` into vectors ``(B, K, D)``."""
        hidden_states = self._joined(tokens)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return self.output_norm(self.output(hidden_states[:, : len(self.queries)]))  # (B, K, D)
