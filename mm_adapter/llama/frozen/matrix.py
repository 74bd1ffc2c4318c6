"""Frozen matrices that lie in memory otherwise than they are computed with, and the decoder's modules around them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PIECE = 1 << 21  # values that are made dense at a time: what a product needs beyond its operands

Self = TypeVar("Self", bound="Matrix")


@dataclass(frozen=True)
class Matrix(ABC):
    """A frozen matrix of ``shape`` (rows, columns), made dense when it is used and no longer than that.

    Its tensors are the dataclass's fields, so that they can be counted and moved whatever they hold.
    """

    shape: tuple[int, int]

    @abstractmethod
    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows ``(R, columns)`` in ``dtype``, on the device of the matrix.

        Args:
            rows: a slice, or int64 indices ``(R,)``.
        """

    def pieces(self) -> Iterator[slice]:
        """Yield the rows that are made dense together."""
        step = max(1, _PIECE // self.shape[1])
        for first in range(0, self.shape[0], step):
            yield slice(first, min(first + step, self.shape[0]))

    def present(self) -> "Matrix":
        """Return the matrix on the device where it is computed with."""
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def map(self: Self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the matrix with every tensor changed."""
        own = {field.name for field in fields(self)}
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self.tensors().items() if name in own}
        return replace(self, **changed)

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class DenseMatrix(Matrix):
    """A matrix as it is: what lies in the host's memory without quantisation.

    Attributes:
        weight: ``(rows, columns)``.
    """

    weight: Tensor

    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows; see ``Matrix``."""
        return self.weight[rows].to(dtype)

    def pieces(self) -> Iterator[slice]:
        """Yield all rows at once: nothing has to be made dense."""
        yield slice(0, self.shape[0])


def product(features: Tensor, matrix: Matrix) -> Tensor:
    """Return ``features @ matrix.T``, ``(..., rows)``, of ``(..., columns)``.

    Differentiable with respect to the features. The matrix is made dense for the product and once more for its
    gradient: neither the dense matrix nor a copy on the device is kept in between.
    """
    return _Product.apply(features, matrix)


class _Product(torch.autograd.Function):
    """``F.linear`` with a weight that is made when it is needed, and never has a gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, matrix: Matrix) -> Tensor:
        ctx.matrix = matrix
        present = matrix.present()
        parts = [F.linear(features, present.dense(piece, features.dtype)) for piece in present.pieces()]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        present = ctx.matrix.present()
        flat = gradient.flatten(0, -2)
        pieces = iter(present.pieces())
        first = next(pieces)
        total = flat[:, first] @ present.dense(first, gradient.dtype)
        for piece in pieces:
            total.addmm_(flat[:, piece], present.dense(piece, gradient.dtype))
        return total.view(*gradient.shape[:-1], present.shape[1]), None


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
