"""Which tensors of a model are kept as frozen matrices, and in which form."""

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.fingerprint import Sampler
from mm_adapter.core.precision import QUANTIZATIONS
from mm_adapter.llama.checkpoints.source import StoredTensor
from mm_adapter.llama.frozen.matrix import Matrix
from mm_adapter.llama.frozen.torchao import GROUP, Int4Matrix, Int8Matrix

_FINE = ("embedding", "head")  # every token's meaning, and small errors are every answer's: never below 8 bits by us


def check_quantization(quantization: str) -> None:
    """Refuse a name that is not known.

    Raises:
        UserError: with the nearest known name.
    """
    if quantization not in QUANTIZATIONS:
        nearest = suggestion(quantization, QUANTIZATIONS)
        raise UserError(f"quantization {quantization!r} is not known{nearest}; {', '.join(QUANTIZATIONS)} are.")


def quantized(name: str, stored: StoredTensor, quantization: str) -> tuple[Matrix, bytes] | None:
    """Return a stored tensor as a frozen matrix and the digest of its stored values; None where it stays as it is.

    Quantised are matrices, so all but norms and biases. With int4 the embedding and the head are kept in 8 bits, and so
    is a matrix whose rows do not divide into groups. Rows are read and quantised some at a time.

    Args:
        name: canonical, without ``.weight``.
        quantization: none, int8, int4 or blocks.

    Raises:
        UserError: the library is missing, or blocks are asked of a file that has none.
    """
    if quantization == "none" or len(stored.shape) != 2:
        return None
    shape = (stored.shape[0], stored.shape[1])
    if quantization == "blocks":
        if stored.blocks is None:
            raise UserError(
                "quantization blocks is of GGUF files; this model is in another format, where int8 and int4 are."
            )
        return stored.blocks(), stored.digest()
    fine = quantization == "int8" or name in _FINE or shape[1] % GROUP
    sampler = Sampler(shape)
    kind: type[Int8Matrix | Int4Matrix] = Int8Matrix if fine else Int4Matrix
    return kind.quantize(shape, stored.sampled(sampler)), sampler.digest()
