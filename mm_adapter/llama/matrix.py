"""Frozen matrices that lie in memory otherwise than they are computed with."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

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
