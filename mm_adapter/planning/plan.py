"""The whole plan of a run: everything that follows from settings, a shape and a device."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.planning.activations import SINGLE, Sizes
from mm_adapter.planning.communication import Communication, plan_communication
from mm_adapter.planning.devices import Device
from mm_adapter.planning.flops import Work, count_work
from mm_adapter.planning.image_costs import TowerShape
from mm_adapter.planning.memory import MemoryPlan, plan_memory, weight_bytes, weights_on_device
from mm_adapter.planning.parameters import Parameters, base_parameters, count_parameters
from mm_adapter.planning.shapes import BaseShape
from mm_adapter.planning.workload import Workload
from mm_adapter.training.config import TrainingConfig

# Of a device's published rate that a run is taken to reach, where nobody says otherwise. The processor's own rate is
# measured on matrix products, of which training here takes about 1.5 times the time (README, training speed).
UTILISATION = {"cpu": 0.65, "cuda": 0.4}


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Attributes:
        base, config, device, ranks, load: what it was made from.
        image_size: width of the image features, 0 without pictures.
        parameters, memory, work, communication: see their classes; work is of one pass.
        utilisation: share of the device's rate that is assumed.
    """

    base: BaseShape
    config: TrainingConfig
    device: Device
    ranks: int
    load: Workload
    tower: TowerShape
    parameters: Parameters
    memory: MemoryPlan
    work: Work
    communication: Communication
    utilisation: float

    @property
    def image_size(self) -> int:
        """Width of the image features F; 0 without pictures."""
        return self.tower.features

    @property
    def fits(self) -> bool:
        """Whether a device holds it, with a gigabyte to spare."""
        return self.memory.peak <= self.device.usable

    @property
    def rate(self) -> float:
        """Operations a second that are assumed."""
        return self.device.rate(self.config.dtype) * self.utilisation

    @property
    def flops_per_question(self) -> float:
        """Operations of a question in training, in an epoch that computes all layers."""
        return self.work.total / self.load.questions

    @property
    def uses(self) -> float:
        """How often a pass needs the mean decoder layer: on the way there, and on the way back where it has a graph."""
        layers = self.base.config.num_layers
        return 1 + (self.config.layers if self.config.method == "adapter" else layers) / layers

    @property
    def copying_seconds(self) -> float:
        """Seconds of a pass in which offloaded layers come from the host."""
        if not self.config.offload or self.device.kind == "cpu":
            return 0.0
        return weights_on_device(self.base, self.config, self.ranks)[1] * self.uses / self.device.host_rate

    @property
    def reading_seconds(self) -> float:
        """Seconds of a pass in which the device reads its weights, at its memory's rate: no pass is shorter."""
        return self._dense_bytes * self.uses / self.device.memory_rate

    @property
    def unpacking_seconds(self) -> float:
        """Seconds of a pass in which quantised weights are made dense: read as they lie, written to be multiplied."""
        if self.config.quantization == "none":
            return 0.0
        held = weight_bytes(self.base, self.config)
        stored = self.base.config.num_layers * held.layer + held.rest
        return (stored + self._dense_bytes) * self.uses / self.device.memory_rate

    @property
    def _dense_bytes(self) -> int:
        return base_parameters(self.base.config) * (SINGLE if self.config.dtype == "float32" else 2)

    def step_seconds(self, with_states: bool = False) -> float:
        """Return seconds of an optimiser step: the work or, if longer, bringing weights; unpacking; communication."""
        work = self.work.with_states if with_states else self.work.total
        computing = self.load.rank_questions / self.load.questions * work / self.rate
        bringing = self.load.passes * max(self.copying_seconds, self.reading_seconds)
        return max(computing, bringing) + self.load.passes * self.unpacking_seconds + self.communication.seconds

    @property
    def epoch_seconds(self) -> float:
        """Seconds of the first epoch."""
        return self.load.steps * self.step_seconds()

    @property
    def later_epoch_seconds(self) -> float:
        """Seconds of a later epoch, which may have the lower layers' outcome at hand."""
        return self.load.steps * self.step_seconds(self.config.cache_states)

    @property
    def run_seconds(self) -> float:
        """Seconds of all epochs; evaluations of held-out questions are not in it."""
        epochs = self.config.epochs
        return min(1.0, epochs) * self.epoch_seconds + max(0.0, epochs - 1) * self.later_epoch_seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens that all ranks together take in a second of the first epoch."""
        return self.load.step_questions * self.load.question_tokens / self.step_seconds()

    @property
    def communication_share(self) -> float:
        """Share of a step that is communication."""
        return self.communication.seconds / self.step_seconds()

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name, bytes and seconds."""
        return {
            "llama": self.base.name,
            "method": self.config.method,
            "device": self.device.name,
            "ranks": self.ranks,
            "trained_parameters": self.parameters.total_trained,
            "trained": self.parameters.trained,
            "frozen_parameters": self.parameters.frozen,
            "memory": self.memory.device,
            "host_memory": self.memory.host,
            "peak_memory": self.memory.peak,
            "peak_phase": self.memory.phase,
            "device_memory": self.device.memory,
            "fits": self.fits,
            "questions_per_pass": self.load.questions,
            "passes_per_step": self.load.passes,
            "question_tokens": self.load.question_tokens,
            "flops_per_question": self.flops_per_question,
            "pass_flops": asdict(self.work),
            "rate": self.device.rate(self.config.dtype),
            "rate_source": self.device.source,
            "utilisation": self.utilisation,
            "step_seconds": self.step_seconds(),
            "tokens_per_second": self.tokens_per_second,
            "epoch_seconds": self.epoch_seconds,
            "later_epoch_seconds": self.later_epoch_seconds,
            "run_seconds": self.run_seconds,
            "communication": asdict(self.communication),
            "communication_share": self.communication_share,
        }


def make_plan(
    base: BaseShape,
    config: TrainingConfig,
    device: Device,
    load: Workload,
    tower: TowerShape,
    ranks: int = 1,
    utilisation: float | None = None,
) -> Plan:
    """Return the plan of a run.

    Args:
        load: what a pass holds, see ``make_workload``.
        tower: of the image features, see ``tower_shape``.
        ranks: devices that the run is spread over.
        utilisation: share of the device's rate that is reached; None for ``UTILISATION``.

    Raises:
        UserError: settings that contradict one another.
    """
    check_settings(config, ranks)
    if utilisation is not None and not 0 < utilisation <= 1:
        raise UserError(f"--utilisation is {utilisation}; it must be more than 0 and at most 1.")
    parameters = count_parameters(base.config, config, tower)
    config = replace(config, device=device.kind)
    sizes = Sizes(base.config, config, load, device.kind, tower)
    return Plan(
        base,
        config,
        device,
        ranks,
        load,
        tower,
        parameters,
        plan_memory(base, config, parameters, load, device.kind, ranks, tower),
        count_work(sizes),
        plan_communication(base, config, parameters, load, device, ranks),
        UTILISATION[device.kind] if utilisation is None else utilisation,
    )


def check_settings(config: TrainingConfig, ranks: int) -> None:
    """Refuse what training would refuse.

    Raises:
        UserError: with what to change.
    """
    if config.method == "adapter-v2":
        raise UserError("method adapter-v2 is not planned yet: it freezes no layer whole. Plan method adapter.")
    if config.method == "full" and config.dtype != "float32":
        raise UserError("method full trains the weights themselves: use dtype float32.")
    if config.sharding != "none" and ranks == 1:
        raise UserError("sharding divides the layers among ranks; give --ranks greater than 1, or leave it out.")
