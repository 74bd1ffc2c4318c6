"""What ranks send one another in an optimiser step."""

from dataclasses import dataclass

from mm_adapter.planning.activations import SINGLE
from mm_adapter.planning.devices import Device
from mm_adapter.planning.memory import weight_bytes
from mm_adapter.planning.parameters import Parameters
from mm_adapter.planning.shapes import BaseShape
from mm_adapter.planning.workload import Workload
from mm_adapter.training.config import TrainingConfig

IN_A_MACHINE = 8  # devices that share one machine's links


@dataclass(frozen=True)
class Communication:
    """Bytes of an optimiser step.

    Attributes:
        reduced: of the gradients that are summed over ranks, once a step.
        gathered: of the frozen layers that each rank puts together from the parts of all, in every pass.
        sent: by each rank, by rings: 2 (R - 1) / R of what is reduced, (R - 1) / R of what is gathered.
        seconds: that sending takes at the published rate, nothing of it behind computation.
    """

    reduced: int
    gathered: int
    sent: int
    seconds: float


def plan_communication(
    base: BaseShape, config: TrainingConfig, parameters: Parameters, load: Workload, device: Device, ranks: int
) -> Communication:
    """Return what a step sends; nothing on one rank.

    Sharded layers are gathered on the way there, all of them, and on the way back, those with a graph.
    """
    if ranks == 1:
        return Communication(0, 0, 0, 0.0)
    reduced = parameters.total_trained * SINGLE
    gathered = 0
    if config.sharding == "full" and config.method != "full":
        layers = base.config.num_layers
        graph = config.layers if config.method == "adapter" else layers
        gathered = load.passes * (layers + graph) * weight_bytes(base, config).layer
    sent = (2 * reduced + gathered) * (ranks - 1) // ranks
    rate = device.link_rate if ranks <= IN_A_MACHINE else min(device.link_rate, device.network_rate)
    return Communication(reduced, gathered, sent, sent / rate)
