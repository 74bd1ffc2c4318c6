"""How many numbers are trained and how many are frozen, exactly."""

import math
from dataclasses import dataclass

from mm_adapter.core.errors import UserError
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.shapes import layer_matrices, layer_vectors
from mm_adapter.training.config import TrainingConfig


@dataclass(frozen=True)
class Parameters:
    """Counts of numbers.

    Attributes:
        trained: by kind: prompts, gates, projection; lora; or full.
        frozen: of the base model.
        largest: of the largest trained tensor.
    """

    trained: dict[str, int]
    frozen: int
    largest: int

    @property
    def total_trained(self) -> int:
        """All that is trained."""
        return sum(self.trained.values())


def base_parameters(config: LlamaConfig) -> int:
    """Return the numbers of a base model."""
    layer = sum(map(math.prod, layer_matrices(config).values())) + layer_vectors(config)
    embedding = config.vocab_size * config.hidden_size
    return config.num_layers * layer + config.hidden_size + embedding * (1 if config.tied_embeddings else 2)


def count_parameters(base: LlamaConfig, config: TrainingConfig, image_size: int) -> Parameters:
    """Return what a run trains and what it leaves.

    Args:
        image_size: width of the image features F; 0 without pictures.

    Raises:
        UserError: more adapted layers than the model has.
    """
    frozen, hidden, shapes = base_parameters(base), base.hidden_size, layer_matrices(base)
    if config.method == "full":
        largest = max(base.vocab_size * hidden, *map(math.prod, shapes.values()))
        return Parameters({"full": frozen}, 0, largest)
    if config.method == "lora":
        updated = [shapes[f"attention.{name}"] for name in ("query", "value")]
        lora = base.num_layers * config.lora_rank * sum(map(sum, updated))
        return Parameters({"lora": lora}, frozen, config.lora_rank * max(map(max, updated)))
    if config.layers > base.num_layers:
        raise UserError(f"layers is {config.layers}, the model has {base.num_layers}; lower --layers.")
    trained = {"prompts": config.layers * config.prompt_length * hidden}
    if config.attention == "zero-init":
        trained["gates"] = config.layers * base.num_heads
    if image_size:
        # Layer norm, down, up: weights and biases of each.
        width = config.bottleneck
        trained["projection"] = 2 * image_size + image_size * width + width + width * hidden + hidden
    tensors = [trained["prompts"], trained.get("gates", 0)]
    if image_size:
        tensors += [image_size * config.bottleneck, config.bottleneck * hidden]
    return Parameters(trained, frozen, max(tensors))
