"""How many numbers are trained and how many are frozen, exactly."""

import math
from dataclasses import dataclass

from mm_adapter.core.errors import UserError
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.image_costs import TowerShape, visual_costs
from mm_adapter.planning.shapes import layer_matrices, layer_vectors
from mm_adapter.training.config import TrainingConfig

_TUNED = ("attention.query", "attention.output", "mlp.gate", "mlp.up", "mlp.down")


@dataclass(frozen=True)
class Parameters:
    """Counts of numbers.

    Attributes:
        trained: by kind: prompts, gates, projection and the like; lora; or full.
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


def count_parameters(base: LlamaConfig, config: TrainingConfig, tower: TowerShape) -> Parameters:
    """Return what a run trains and what it leaves.

    Args:
        tower: of the image features, see ``tower_shape``.

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
    tensors = {"prompts": [config.layers * config.prompt_length * hidden]}
    if config.attention == "zero-init":
        gated = 2 if tower.features and config.image_prompts == "tiles" else 1
        tensors["gates"] = gated * [config.layers * base.num_heads]
    if config.method == "adapter-v2":
        # Of each layer biases and scales of five projections, and two norms; the last norm.
        outputs = [shapes[name][0] for name in _TUNED]
        tensors["tuning"] = [*base.num_layers * [*outputs, *outputs, hidden, hidden], hidden]
    tensors |= visual_costs(config, hidden, tower).tensors
    trained = {kind: sum(sizes) for kind, sizes in tensors.items()}
    return Parameters(trained, frozen, max(size for sizes in tensors.values() for size in sizes))
