"""What devices are published to do, and what this machine's processor is measured to do."""

import os
import time
from dataclasses import dataclass
from functools import cache

import torch

from mm_adapter.core.errors import UserError, suggestion

GIGA = 10**9
# Held back on every device for what is no tensor of ours: the CUDA context and library workspaces, or Python with its
# libraries. An allowance, not a measurement.
RESERVE = 1 * GIGA


@dataclass(frozen=True)
class Device:
    """A kind of device.

    Attributes:
        name: as ``--device`` takes it.
        memory: bytes.
        half_rate: floating-point operations a second of dense matrix products in bfloat16 with float32 sums (float16
            where there is no bfloat16), without sparsity.
        single_rate: the same in float32, without TF32: PyTorch's default.
        memory_rate: bytes a second between the device and its memory.
        link_rate: bytes a second that a device sends to its neighbours in one machine, one way.
        host_rate: bytes a second from the host's memory, one way.
        network_rate: bytes a second that a device sends to another machine, one way.
        source: where the figures come from.
        bfloat16: whether its matrix units compute in bfloat16.
    """

    name: str
    memory: int
    half_rate: float
    single_rate: float
    memory_rate: float
    link_rate: float
    host_rate: float
    network_rate: float
    source: str
    bfloat16: bool = True

    @property
    def kind(self) -> str:
        """What PyTorch calls it: cpu or cuda."""
        return "cpu" if self.name == "cpu" else "cuda"

    @property
    def usable(self) -> int:
        """Bytes for tensors."""
        return max(0, self.memory - RESERVE)

    def rate(self, dtype: str) -> float:
        """Return operations a second in ``dtype``: float32, bfloat16 or float16."""
        slow = dtype == "float32" or (dtype == "bfloat16" and not self.bfloat16)
        return self.single_rate if slow else self.half_rate


def _gpu(
    name: str,
    memory: int,
    half: float,
    single: float,
    memory_rate: float,
    link: float,
    host: float,
    network: float,
    source: str,
    bfloat16: bool = True,
) -> Device:
    # Teraflops and gigabytes as data sheets print them; links are printed both ways together, and halved here.
    return Device(
        name,
        memory * GIGA,
        half * 1e12,
        single * 1e12,
        memory_rate * GIGA,
        link / 2 * GIGA,
        host / 2 * GIGA,
        network * GIGA,
        source,
        bfloat16,
    )


# Between machines: an adapter of 200 Gbit/s for each A100 (DGX A100 data sheet), of 400 Gbit/s for each H100 and H200
# (DGX H100 data sheet), half of one of 100 Gbit/s for each V100 (DGX-1 data sheet); 10 Gbit/s assumed for the others.
GPUS = [
    _gpu("a100-40g", 40, 312, 19.5, 1555, 600, 64, 25, "NVIDIA A100 data sheet, SXM"),
    _gpu("a100", 80, 312, 19.5, 2039, 600, 64, 25, "NVIDIA A100 data sheet, SXM 80 GB"),
    _gpu("h100", 80, 989.4, 67, 3350, 900, 128, 50, "NVIDIA H100 data sheet, SXM; half of the figures with sparsity"),
    _gpu("h200", 141, 989.4, 67, 4800, 900, 128, 50, "NVIDIA H200 data sheet, SXM; half of the figures with sparsity"),
    _gpu("rtx-3090", 24, 71, 35.6, 936, 64, 64, 1.25, "NVIDIA Ampere GA102 white paper, table 9; no NVLink assumed"),
    _gpu("rtx-4090", 24, 165.2, 82.6, 1008, 64, 64, 1.25, "NVIDIA Ada white paper, appendix A; no NVLink"),
    _gpu("v100", 32, 125, 15.7, 900, 300, 32, 6.25, "NVIDIA V100 data sheet, SXM2 32 GB", False),
    _gpu("l4", 24, 121, 30.3, 300, 64, 64, 1.25, "NVIDIA L4 data sheet; half of the figures with sparsity"),
    _gpu("t4", 16, 65, 8.1, 320, 32, 32, 1.25, "NVIDIA T4 data sheet", False),
]
DEVICES = {device.name: device for device in GPUS}


def find_device(name: str, memory: float | None = None) -> Device:
    """Return the kind of device of a name: one of ``DEVICES``, or ``cpu`` for this machine.

    Args:
        memory: gigabytes (10 ** 9 bytes) that it has, where that is not what is published.

    Raises:
        UserError: the name is not known, or the memory not positive.
    """
    if memory is not None and not 0 < memory < 1e6:
        raise UserError(f"--memory is {memory}; give gigabytes, more than 0.")
    if name != "cpu" and name not in DEVICES:
        known = ["cpu", *DEVICES]
        if name.split(":")[0] in ("cuda", "mps"):
            raise UserError(f"--device {name} does not say which one to plan for; name one of {', '.join(known)}.")
        raise UserError(f"--device {name!r} is not known{suggestion(name, known)}; there are: {', '.join(known)}.")
    found = this_processor() if name == "cpu" else DEVICES[name]
    if memory is None:
        return found
    return Device(**{**vars(found), "memory": int(memory * GIGA)})


@cache
def this_processor() -> Device:
    """Return this machine's processor: its memory, and the rates at which it multiplies matrices just now."""
    memory = 16 * GIGA
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    half, single = measured_rate(torch.bfloat16), measured_rate(torch.float32)
    copied = 10 * GIGA
    return Device("cpu", memory, half, single, copied, copied, copied, 0.125 * GIGA, "measured on this machine")


def measured_rate(dtype: torch.dtype, rows: int = 512, width: int = 1024) -> float:
    """Return operations a second of a product of matrices on this processor: the best of a few.

    In the process's own time: what other programs take meanwhile is not the processor's fault.
    """
    left, right = torch.ones(rows, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        left @ right
        seconds.append((time.process_time() - start) / torch.get_num_threads())
    return 2 * rows * width * width / min(seconds)
