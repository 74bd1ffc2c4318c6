"""What a reader of weights hands over, whatever the format it came from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.tokenizer import Tokenizer


@dataclass(frozen=True)
class WeightSource:
    """A model on disk, opened but not yet loaded.

    Attributes:
        config: its shape.
        tensors: yields each ``(canonical name, tensor)`` in the dtype of the file, one at a time.
        tokenizer: builds the tokenizer, or returns None where the files have none.
    """

    config: LlamaConfig
    tensors: Callable[[], Iterator[tuple[str, Tensor]]]
    tokenizer: Callable[[], Tokenizer | None]


def interleaved_to_half_split(weight: Tensor, num_heads: int) -> Tensor:
    """Reorder a query or key projection from adjacent rotary pairs to half-split pairs.

    Meta's files and GGUF rotate channels (0, 1), (2, 3), …; Hugging Face and this package (0, d/2), (1, d/2 + 1), ….

    Args:
        weight: ``(num_heads * head_dim, D)`` or a bias ``(num_heads * head_dim,)``.
    """
    head_dim = weight.shape[0] // num_heads
    pairs = weight.reshape(num_heads, head_dim // 2, 2, *weight.shape[1:])
    return torch.transpose(pairs, 1, 2).reshape(weight.shape)
