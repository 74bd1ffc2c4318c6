"""The shape of a LLaMA."""

from dataclasses import dataclass
from typing import Any

from mm_adapter.core.errors import UserError

_LARGEST = 1 << 24  # no published size is near it; a damaged file's sizes usually are beyond it


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's stretching of the rotary frequencies (``rope_type: llama3`` in Hugging Face configs).

    Attributes:
        factor: long wavelengths are stretched by this.
        low_frequency_factor, high_frequency_factor: bounds, in turns over the original context, of the smooth zone.
        original_context_length: positions that the model saw before the stretching.
    """

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context_length: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _check_positive(f"rope_scaling.{name}", value)
        if self.low_frequency_factor >= self.high_frequency_factor:
            raise UserError("model configuration: rope_scaling's low frequency factor must be below the high one.")


@dataclass(frozen=True)
class RopeDivisors:
    """A stretching of the rotary frequencies given pair by pair, as GGUF files store it; linear scaling is all alike.

    Attributes:
        divisors: one for each of the head_dim / 2 frequencies.
    """

    divisors: tuple[float, ...]

    def __post_init__(self) -> None:
        for value in self.divisors:
            _check_positive("a rotary divisor", value)


@dataclass(frozen=True)
class LlamaConfig:
    """Everything that determines the decoder's tensors and arithmetic.

    Attributes:
        vocab_size: rows of the embedding, V.
        hidden_size: width of the residual stream, D.
        num_layers: decoder layers, N.
        num_heads: query heads, H.
        num_kv_heads: key and value heads; fewer than ``num_heads`` in grouped-query attention.
        head_dim: width of one head; usually, not always, D / H.
        intermediate_size: width of the SwiGLU.
        context_length: positions that the model was trained for.
        norm_epsilon: added to the mean square in RMSNorm.
        rope_theta: base of the rotary wavelengths.
        rope_scaling: of the rotary frequencies, or None.
        tied_embeddings: the output head is the embedding.
        attention_bias: the four attention projections have a bias.
        mlp_bias: the three projections of the feed-forward network have a bias.
        position_limit: positions below this are computed as the model computes them, further ones are refused: the
            width of a sliding window, or where dynamic rotary scaling sets in. None where there is no such limit.
        begin_token, end_tokens: ids that begin and end a sequence, as the model's files state them.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int = 2048
    norm_epsilon: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | RopeDivisors | None = None
    tied_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    position_limit: int | None = None
    begin_token: int | None = None
    end_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = (
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "intermediate_size",
            "context_length",
        )
        for name in sizes:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"model configuration: {name} is {value!r}; it must be a positive whole number.")
            if value > _LARGEST:
                raise UserError(f"model configuration: {name} is {value}, beyond anything that exists; a damaged file?")
        if self.position_limit is not None and (type(self.position_limit) is not int or self.position_limit < 1):
            raise UserError(
                f"model configuration: position_limit is {self.position_limit!r}; it must be a positive whole number."
            )
        for name in ("norm_epsilon", "rope_theta"):
            _check_positive(name, getattr(self, name))
        for token in (self.begin_token, *self.end_tokens):
            if token is not None and (type(token) is not int or not 0 <= token < self.vocab_size):
                raise UserError(f"model configuration: {token!r} is not a token of {self.vocab_size}.")
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"model configuration: {self.num_heads} query heads cannot share {self.num_kv_heads} key heads evenly."
            )
        if self.head_dim % 2:
            raise UserError(f"model configuration: head_dim {self.head_dim} is odd; rotary embedding needs pairs.")
        if isinstance(self.rope_scaling, RopeDivisors) and len(self.rope_scaling.divisors) != self.head_dim // 2:
            found = len(self.rope_scaling.divisors)
            raise UserError(f"model configuration: {found} rotary divisors, expected {self.head_dim // 2}.")


def _check_positive(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 < value < 1e30:
        raise UserError(f"model configuration: {name} is {value!r}; it must be a positive number.")
