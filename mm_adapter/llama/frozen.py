"""The decoder's modules around frozen matrices: linear maps and the embedding, and how they come into a model."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mm_adapter.llama.matrix import Matrix, product


class FrozenLinear(nn.Linear):
    """A linear map whose weight is a frozen matrix; ``weight`` is None. The bias is as of any linear map.

    A kind of ``nn.Linear``, since low-rank updates are put around those alone.

    Args:
        matrix: ``(out_features, in_features)``.
        bias: ``(out_features,)`` or None.
    """

    def __init__(self, matrix: Matrix, bias: nn.Parameter | None = None) -> None:
        super().__init__(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
        self.register_parameter("weight", None)
        self.register_parameter("bias", bias)
        self.matrix = matrix

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        outcome = product(features, self.matrix)
        return outcome if self.bias is None else outcome + self.bias

    @property
    def qweight(self) -> Tensor:
        """Any of the matrix's tensors: where PEFT looks for the device of a layer without a weight."""
        return next(iter(self.matrix.tensors().values()))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrozenLinear":
        super()._apply(fn, recurse)
        self.matrix = _moved(self.matrix, fn)
        return self


class FrozenEmbedding(nn.Module):
    """An embedding whose rows are those of a frozen matrix.

    Args:
        matrix: ``(vocabulary, D)``.
        dtype: of what comes out.
    """

    def __init__(self, matrix: Matrix, dtype: torch.dtype) -> None:
        super().__init__()
        self.matrix, self.dtype = matrix, dtype

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(..., D)`` for int64 tokens ``(...)``."""
        rows = self.matrix.present().dense(tokens.flatten(), self.dtype)
        return rows.view(*tokens.shape, self.matrix.shape[1])

    def scores(self, hidden_states: Tensor) -> Tensor:
        """Return the logits ``(..., vocabulary)`` of ``(..., D)``, for models whose head is their embedding."""
        return product(hidden_states, self.matrix)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrozenEmbedding":
        super()._apply(fn, recurse)
        self.matrix = _moved(self.matrix, fn)
        return self


def _moved(matrix: Matrix, change: Callable[[Tensor], Tensor]) -> Matrix:
    # A change of dtype is not for scales and blocks: only where a change would take tensors to is asked.
    device = change(torch.empty(0)).device
    return matrix.map(lambda tensor: tensor.to(device))


def place_matrices(model: nn.Module, matrices: Mapping[str, Matrix], dtype: torch.dtype) -> None:
    """Put frozen matrices in the place of a model's linear maps and embedding, by their names.

    Args:
        dtype: of the residual stream.
    """
    for name, matrix in matrices.items():
        parent_name, _, own = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        module: Any = getattr(parent, own)
        frozen = FrozenLinear(matrix, module.bias) if isinstance(module, nn.Linear) else FrozenEmbedding(matrix, dtype)
        setattr(parent, own, frozen)


def frozen_matrices(model: nn.Module) -> Iterator[Matrix]:
    """Yield the frozen matrices of a model; none where its weights are ordinary parameters."""
    for module in model.modules():
        if isinstance(module, FrozenLinear | FrozenEmbedding):
            yield module.matrix


def count_frozen(model: nn.Module) -> int:
    """Return how many numbers of a model are frozen."""
    parameters = sum(weight.numel() for weight in model.parameters() if not weight.requires_grad)
    return parameters + sum(math.prod(matrix.shape) for matrix in frozen_matrices(model))


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters, buffers and frozen matrices, their scales included."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.nbytes for tensor in tensors) + sum(matrix.nbytes for matrix in frozen_matrices(model))
