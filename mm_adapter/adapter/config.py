"""What an adapter is, apart from its weights."""

from dataclasses import dataclass

from mm_adapter.errors import UserError

KINDS = {
    "attention": ("zero-init", "random-init"),
    "gate_activation": ("tanh", "none"),
    "prompt_heads": ("own", "litgpt-0.5.5"),
}


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
    """

    layers: int = 30
    prompt_length: int = 10
    attention: str = "zero-init"
    image_size: int = 0
    bottleneck: int = 128
    gate_activation: str = "tanh"
    prompt_heads: str = "own"

    def __post_init__(self) -> None:
        for name, known in KINDS.items():
            if getattr(self, name) not in known:
                raise UserError(f"adapter {name} {getattr(self, name)!r} is not known; {' and '.join(known)} are.")
        if self.prompt_heads != "own" and (self.image_size or self.attention != "zero-init"):
            raise UserError(f"adapter: prompt_heads {self.prompt_heads} goes with text-only zero-init attention alone.")
        if self.layers < 1 or self.prompt_length < 1 or self.bottleneck < 1 or self.image_size < 0:
            raise UserError("adapter: layers, prompt_length and bottleneck must be positive, image_size not negative.")
