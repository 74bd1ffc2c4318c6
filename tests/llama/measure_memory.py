"""Reports what loading a model takes, in a process of its own: started by ``test_memory.py``.

    python measure_memory.py NAME DTYPE [QUANTIZATION]

Prints JSON: bytes that the peak of resident memory rose by, bytes of the model, seconds.
"""

import json
import sys
import time
from pathlib import Path

import torch

from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.frozen.matrix import weight_bytes
from mm_adapter.llama.frozen.quantized import Int4Matrix, Int8Matrix


def resident(field: str) -> int:
    """Return a field of this process's memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field + ":"))


def main() -> None:
    """Load a model and report."""
    name, dtype, quantization = (*sys.argv[1:], "none")[:3]
    torch.zeros(1).half().float()  # whatever torch sets up on first use is not the model's, nor a library's code
    if quantization in ("int8", "int4"):
        for kind in (Int8Matrix, Int4Matrix):
            kind.quantize((2, 64), [torch.ones(2, 64)]).dense(slice(0, 2), torch.float32)
    Path("/proc/self/clear_refs").write_text("5")
    before, began = resident("VmRSS"), time.perf_counter()
    model = load_llama(name, getattr(torch, dtype), quantization=quantization).model
    seconds = time.perf_counter() - began
    peak = resident("VmHWM") - before
    print(json.dumps({"peak": peak, "size": weight_bytes(model), "seconds": seconds}))


if __name__ == "__main__":
    main()
