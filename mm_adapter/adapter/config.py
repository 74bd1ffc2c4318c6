"""What an adapter is, apart from its weights."""

from dataclasses import dataclass

from mm_adapter.errors import UserError


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
    """

    layers: int = 30
    prompt_length: int = 10
    attention: str = "zero-init"
    image_size: int = 0
    bottleneck: int = 128

    def __post_init__(self) -> None:
        if self.attention not in ("zero-init", "random-init"):
            raise UserError(f"adapter attention {self.attention!r} is not known; zero-init and random-init are.")
        if self.layers < 1 or self.prompt_length < 1 or self.bottleneck < 1 or self.image_size < 0:
            raise UserError("adapter: layers, prompt_length and bottleneck must be positive, image_size not negative.")
