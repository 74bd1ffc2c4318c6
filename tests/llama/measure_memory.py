"""Reports what loading a model takes, in a process of its own: started by ``test_memory.py``.

    python measure_memory.py NAME DTYPE

Prints JSON: bytes that the peak of resident memory rose by, bytes of the model, seconds.
"""

import json
import sys
import time
from pathlib import Path

import torch

from mm_adapter.llama.weights import load_llama


def resident(field: str) -> int:
    """Return a field of this process's memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field + ":"))


def main() -> None:
    """Load a model and report."""
    torch.zeros(1).half().float()  # whatever torch sets up on first use is not the model's
    Path("/proc/self/clear_refs").write_text("5")
    before, began = resident("VmRSS"), time.perf_counter()
    model = load_llama(sys.argv[1], getattr(torch, sys.argv[2])).model
    seconds = time.perf_counter() - began
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    print(json.dumps({"peak": resident("VmHWM") - before, "size": size, "seconds": seconds}))


if __name__ == "__main__":
    main()
