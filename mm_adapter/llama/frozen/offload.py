"""Frozen layers in the host's memory: each matrix is copied to the device ahead of its use and dropped after.

Only products use these matrices, and they take them anew on the way back (``llama.frozen.matrix.product``), so
nothing on the device outlives its use, with or without checkpointing, within the layers or where an adapter projects
its prompts. Norms and biases are a thousandth of a layer and stay on the device, as do the embedding and the head.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mm_adapter.llama.frozen.matrix import DenseMatrix, FrozenLinear, Matrix
from mm_adapter.llama.model import Llama


class MatrixPrefetcher:
    """Brings matrices from the host to a device, the next one while the last is computed with.

    Which is next follows from the direction of the last two: forwards through the model, or backwards for gradients. A
    wrong guess costs a copy. On CUDA the copies run from pinned memory on a stream of their own.

    Attributes:
        matrices: in the host's memory, in the order of a forward pass.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.matrices: list[Matrix] = []
        self._last = -1
        self._coming: tuple[int, Matrix] | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def add(self, matrix: Matrix) -> int:
        """Take charge of a matrix; return the number under which it is fetched."""
        self.matrices.append(matrix.map(Tensor.pin_memory) if self._stream is not None else matrix)
        return len(self.matrices) - 1

    def fetch(self, number: int) -> Matrix:
        """Return a matrix on the device, and set out for the one that is likely to be next."""
        coming, self._coming = self._coming, None
        here = coming[1] if coming is not None and coming[0] == number else self._copy(number)
        del coming  # a wrong guess makes room
        if self._stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._stream)
            for tensor in here.tensors().values():
                tensor.record_stream(current)
        following = number + (1 if number > self._last else -1)
        self._last = number
        if 0 <= following < len(self.matrices):
            self._coming = following, self._copy(following)
        return here

    def _copy(self, number: int) -> Matrix:
        with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            return self.matrices[number].map(lambda tensor: tensor.to(self.device, non_blocking=True, copy=True))


@dataclass(frozen=True)
class HostMatrix(Matrix):
    """A matrix in the host's memory that is computed with on a device.

    Attributes:
        prefetcher: brings it there.
        number: its number at the prefetcher.
    """

    prefetcher: MatrixPrefetcher
    number: int

    def present(self) -> Matrix:
        """Return the matrix on the device."""
        return self.prefetcher.fetch(self.number)

    def dense(self, rows: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Return some rows, on the device; see ``Matrix``."""
        return self.present().dense(rows, dtype)

    def pieces(self) -> Iterator[slice]:
        """Yield the rows that are made dense together."""
        return self.prefetcher.matrices[self.number].pieces()

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors in the host's memory; ``map`` moves none of them."""
        return self.prefetcher.matrices[self.number].tensors()


def offload_layers(model: Llama, device: torch.device) -> None:
    """Leave the matrices of a model's layers in the host's memory, in place; the rest is for the caller to move.

    Args:
        model: frozen, in the host's memory, quantised or not.
        device: where is computed.
    """
    prefetcher = MatrixPrefetcher(device)
    for layer in model.layers:
        linears = [(parent, name) for parent in layer.modules() for name, child in parent.named_children()]
        for parent, name in linears:
            linear = getattr(parent, name)
            if not isinstance(linear, nn.Linear):
                continue
            if isinstance(linear, FrozenLinear):
                matrix = linear.matrix
            else:
                matrix = DenseMatrix((linear.out_features, linear.in_features), linear.weight.detach())
            hosted = HostMatrix(matrix.shape, prefetcher, prefetcher.add(matrix))
            setattr(parent, name, FrozenLinear(hosted, linear.bias))
