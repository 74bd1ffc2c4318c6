"""Memory of a device at its fullest, by kind: a run goes through phases, and one of them holds the most."""

import math
from dataclasses import dataclass

from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.activations import (
    SINGLE,
    Sizes,
    head_memory,
    layer_memory,
    lower_work,
    prefix_memory,
    rotation_memory,
)
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.planning.parameters import Parameters, base_parameters
from mm_adapter.planning.shapes import BaseShape, layer_matrices, layer_vectors
from mm_adapter.planning.workload import Workload
from mm_adapter.training.config import TrainingConfig

KINDS = (
    "weights",
    "image tower",
    "prefixes",
    "activations",
    "work",
    "gradients",
    "optimiser",
    "copies",
    "features",
    "cached states",
)
CACHE_LIMIT = 4 << 30  # bytes of the states that are kept below the adapter, at most
_SCALE_BLOCK = 64  # values that share a float32 scale in 4 bits
_BLOCKS_BYTES = 4.85 / 8  # bytes a weight of a Q4_K_M file, as llama.cpp reports for 7B; where no file is at hand


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes at the fullest moment.

    Attributes:
        device: by kind, on each device.
        host: by kind, in the memory of each rank's host; empty where the device is the host.
        phase: which moment it is.
    """

    device: dict[str, int]
    host: dict[str, int]
    phase: str

    @property
    def peak(self) -> int:
        """Bytes on a device in all."""
        return sum(self.device.values())


@dataclass(frozen=True)
class Weights:
    """Bytes of the frozen or trained base.

    Attributes:
        layer: of one decoder layer.
        rest: embedding, final norm and head.
    """

    layer: int
    rest: int


def weight_bytes(base: BaseShape, config: TrainingConfig) -> Weights:
    """Return the bytes of the base as ``config.quantization`` stores it: norms and biases stay in ``config.dtype``.

    8 bits: a scale in float32 for each row. 4 bits: one for each 64 values, and 8 bits for embedding and head. Blocks:
    as they lie in the file.
    """
    shape, kind = base.config, config.quantization
    element = SINGLE if config.dtype == "float32" else 2
    matrices = layer_matrices(shape).values()
    vectors = layer_vectors(shape) * element
    ends = [(shape.vocab_size, shape.hidden_size)] * (1 if shape.tied_embeddings else 2)
    norm = shape.hidden_size * element
    if kind == "none":
        return Weights(element * sum(map(math.prod, matrices)) + vectors, element * sum(map(math.prod, ends)) + norm)
    eight = sum(rows * (columns + SINGLE) for rows, columns in ends)
    if kind == "int8":
        return Weights(sum(rows * (columns + SINGLE) for rows, columns in matrices) + vectors, eight + norm)
    if kind == "int4":
        values = sum(map(math.prod, matrices))
        return Weights(values // 2 + values // _SCALE_BLOCK * SINGLE + vectors, eight + norm)
    share = _BLOCKS_BYTES if base.block_bytes is None else base.block_bytes / base_parameters(shape)
    layer, rest = sum(map(math.prod, matrices)), sum(map(math.prod, ends))
    return Weights(int(layer * share) + vectors, int(rest * share) + norm)


def weights_on_device(base: BaseShape, config: TrainingConfig, ranks: int) -> tuple[int, int]:
    """Return bytes of the base on each device and in the host's memory.

    Offloaded layers leave two of the largest matrices on the device, one in use and one on its way. Of sharded layers a
    rank holds its part, and two whole ones: one in use and the next gathered.
    """
    weights, layers = weight_bytes(base, config), base.config.num_layers
    if config.method == "full":
        return layers * weights.layer + weights.rest, 0
    sharded = config.sharding == "full" and ranks > 1
    held = layers * weights.layer // ranks if sharded else layers * weights.layer
    if config.offload:
        largest = max(map(math.prod, layer_matrices(base.config).values()))
        values = sum(map(math.prod, layer_matrices(base.config).values()))
        return weights.rest + 2 * weights.layer * largest // values, held
    return weights.rest + held + (2 * weights.layer if sharded else 0), 0


def plan_memory(
    base: BaseShape,
    config: TrainingConfig,
    parameters: Parameters,
    load: Workload,
    device: str,
    ranks: int = 1,
    tower: TowerShape = NO_TOWER,
) -> MemoryPlan:
    """Return what a device holds at its fullest moment, from the second step on.

    Args:
        device: cpu or cuda.
        tower: of the image features; it stays loaded.
    """
    sizes = Sizes(base.config, config, load, device, tower)
    resident, offloaded = weights_on_device(base, config, ranks)
    trained = parameters.total_trained * SINGLE
    average = trained if config.ema_decay else 0
    base_held = 0 if config.method == "full" else resident
    always = {
        "weights": base_held + trained,
        "image tower": tower.parameters * SINGLE,
        # AdamW's two moments; a running average beside them.
        "optimiser": 2 * trained + average,
    }
    questions = math.ceil(load.epoch_questions / ranks)
    host = {
        "weights": offloaded,
        "features": 0 if tower.tokens else questions * tower.features * SINGLE,
    }  # tokens stay on disk
    if config.cache_states and sizes.first_layer:
        wanted = questions * load.question_tokens * base.config.hidden_size * sizes.element
        host["cached states"] = min(CACHE_LIMIT, wanted)
    if device == "cpu":  # one memory
        always["weights"] += host.pop("weights")
        always |= host
        host = {}
    gradients = trained if config.method != "full" or load.passes > 1 else 0
    moments = [*pass_moments(sizes, gradients).items()]
    step_work = 2 * SINGLE * parameters.largest
    moments.append(("optimiser step", {"gradients": trained, "work": step_work}))
    # An evaluation of the held-out questions: where averaged weights stand in, those in training are set aside.
    moments.append(("validation", {"copies": average, "work": _validation_work(sizes)}))
    # Trained tensors, moments and average, written through memory.
    written = (3 * trained + average) * 9 // 8
    moments.append(("writing the state", {"copies": written if device == "cpu" else 0}))
    phase, fullest = max(moments, key=lambda moment: sum(moment[1].values()))
    if device != "cpu":
        host["copies"] = written
    by_kind = {kind: always.get(kind, 0) + fullest.get(kind, 0) for kind in KINDS}
    return MemoryPlan(by_kind, {kind: size for kind, size in host.items() if size}, phase)


def pass_moments(sizes: Sizes, gradients: int) -> dict[str, dict[str, int]]:
    """Return what a pass holds, by kind, at the moments at which it may hold the most.

    Args:
        gradients: bytes of those that are there from its start.
    """
    base, config = sizes.base, sizes.config
    layers = [layer_memory(sizes, index) for index in range(sizes.first_layer, base.num_layers)]
    head, head_work = head_memory(sizes)
    # What the lower layers hand on is kept as the first layer's input.
    states = sizes.tokens * base.hidden_size * sizes.element
    prefixes = prefix_memory(sizes)
    held = [layer.entering if config.gradient_checkpointing else layer.kept for layer in layers]
    tables = rotation_memory(sizes)
    lower = {"prefixes": prefixes, "activations": states + tables, "work": lower_work(sizes, sizes.tokens)}
    moments = {"lower layers": lower}
    below = states + tables + sum(held)

    def add(name: str, activations: int, work: int) -> None:
        known = {"prefixes": prefixes, "activations": activations, "work": work, "gradients": gradients}
        if name not in moments or sum(known.values()) > sum(moments[name].values()):
            moments[name] = known

    of_layer, of_head = _full_gradients(base, config)
    if config.method == "full":
        gradients += of_head
    add("start of the way back", below + head, head_work)
    for layer, own in zip(reversed(layers), reversed(held), strict=True):
        whole = below - own + layer.kept
        add("way back", whole, layer.mlp_work + of_layer // 2)
        add("way back", whole - layer.mlp, layer.attention_work)
        gradients += of_layer
        below -= own
    add("end of the way back", states, of_head)
    return moments


def _full_gradients(base: LlamaConfig, config: TrainingConfig) -> tuple[int, int]:
    """Return bytes of the gradients of a layer and of the head where every weight is trained; else zeros."""
    if config.method != "full":
        return 0, 0
    layer = sum(map(math.prod, layer_matrices(base).values())) + layer_vectors(base)
    return layer * SINGLE, base.vocab_size * base.hidden_size * SINGLE


def _validation_work(sizes: Sizes) -> int:
    load = sizes.load
    tokens = sizes.config.validation_budget
    rows = tokens * load.predicting // load.question_tokens
    return lower_work(sizes, tokens) + rows * sizes.base.vocab_size * sizes.element
