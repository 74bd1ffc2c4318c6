"""Shape and kind of an adapter."""

from dataclasses import dataclass

from mm_adapter.core.errors import UserError

KINDS = {
    "attention": ("zero-init", "random-init"),
    "gate_activation": ("tanh", "none"),
    "prompt_heads": ("own", "litgpt-0.5.5"),
    "image_prompts": ("shared", "tiles", "query"),
    "no_image": ("prompts", "zero-picture"),
}

_LARGEST, _MOST_BLOCKS = 1 << 32, 1000  # no published size is near them; a damaged file's sizes usually are beyond


@dataclass(frozen=True)
class AdapterConfig:
    """Shape and kind of a LLaMA-Adapter.

    Attributes:
        layers: topmost decoder layers that are adapted, L.
        prompt_length: adaption prompts of each layer, K.
        attention: ``zero-init`` (separate softmax behind a gate, the method) or ``random-init`` (prompt keys join the
            ordinary softmax without a gate, the paper's ablation).
        image_size: width of the image features, 0 for a text-only adapter.
        bottleneck: width inside the visual projection.
        gate_activation: ``tanh`` (the method) or ``none``: the gate multiplies as it is (PEFT, litgpt, the inference
            code of the original).
        prompt_heads: ``own`` (prompts go through the layer's key and value projections, the method) or
            ``litgpt-0.5.5``: through whichever heads litgpt takes since that version, see ``litgpt_heads``.
        image_prompts: ``shared`` (a picture is one vector, added to all prompts: V1), ``tiles`` (each piece of the
            features is a prompt of its own, behind gates of their own) or ``query`` (one vector for each prompt, by
            learned queries over the tower's tokens: the multimodal V2, arXiv 2304.15010).
        image_pieces: with ``tiles``, the widths of the pieces that the image features consist of, in order.
        query_width, query_blocks, query_heads, query_inner, query_epsilon: of ``VisualQuery`` and its blocks.
        no_image: what stands for a missing picture: ``prompts`` (the prompts alone) or ``zero-picture`` (a picture of
            zeros, as the tower sees them after normalisation).
        prompt_scale: the attention to the prompts has a factor of its own in each layer, besides the gate.
        biases, output_scales, norms, lora_rank: what of the frozen model the adapter brings along, see
            ``WeightTuning``.
    """

    layers: int = 30
    prompt_length: int = 10
    attention: str = "zero-init"
    image_size: int = 0
    bottleneck: int = 128
    gate_activation: str = "tanh"
    prompt_heads: str = "own"
    image_prompts: str = "shared"
    image_pieces: tuple[int, ...] = ()
    query_width: int = 768
    query_blocks: int = 8
    query_heads: int = 16
    query_inner: int = 3072
    query_epsilon: float = 1e-5
    no_image: str = "prompts"
    prompt_scale: bool = False
    biases: bool = False
    output_scales: bool = False
    norms: bool = False
    lora_rank: int = 0

    def __post_init__(self) -> None:
        for name, known in KINDS.items():
            if getattr(self, name) not in known:
                raise UserError(f"adapter {name} {getattr(self, name)!r} is not known; {' and '.join(known)} are.")
        if self.prompt_heads != "own" and (self.image_size or self.attention != "zero-init"):
            raise UserError(f"adapter: prompt_heads {self.prompt_heads} goes with text-only zero-init attention alone.")
        if self.layers < 1 or self.prompt_length < 1 or self.bottleneck < 1 or self.image_size < 0:
            raise UserError("adapter: layers, prompt_length and bottleneck must be positive, image_size not negative.")
        sizes = (self.layers, self.prompt_length, self.bottleneck, self.image_size, self.query_width, self.query_inner)
        if max(sizes) > _LARGEST:
            raise UserError(f"adapter: a size of {max(sizes)}; none is above {_LARGEST}.")
        if self.image_prompts != "shared" and (not self.image_size or self.attention != "zero-init"):
            raise UserError(
                f"adapter: image_prompts {self.image_prompts} goes with pictures and zero-init attention alone."
            )
        pieces = self.image_pieces
        if (self.image_prompts == "tiles") != bool(pieces) or (
            pieces and (min(pieces) < 1 or sum(pieces) != self.image_size)
        ):
            raise UserError(
                f"adapter: image_pieces {list(pieces)} go with image_prompts tiles and add up to the width of the "
                f"image features, {self.image_size}."
            )
        if self.prompt_scale and (self.attention != "zero-init" or self.image_prompts == "tiles"):
            raise UserError("adapter: prompt_scale goes with zero-init attention alone, and not with tiles.")
        if min(self.query_width, self.query_heads, self.query_inner) < 1 or self.query_width % self.query_heads:
            raise UserError(
                f"adapter: {self.query_heads} query_heads cannot share a query_width of {self.query_width} evenly."
            )
        if not 0 < self.query_epsilon < 1:
            raise UserError(f"adapter: query_epsilon {self.query_epsilon} must be between 0 and 1.")
        if not (0 <= self.lora_rank <= _LARGEST and 0 <= self.query_blocks <= _MOST_BLOCKS):
            raise UserError(f"adapter: lora_rank must not be negative, query_blocks be 0 to {_MOST_BLOCKS}.")

    @property
    def tunes_weights(self) -> bool:
        """The adapter brings biases, scales, norms or low-rank updates of the frozen model along."""
        return self.biases or self.output_scales or self.norms or self.lora_rank > 0
