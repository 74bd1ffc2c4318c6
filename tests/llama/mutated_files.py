"""Damages model files at random and reads them, in a process of its own: started by ``test_mutations.py``.

    python mutated_files.py FOLDER FORMAT FILE COUNT

Prints a JSON line before and after each reading, so that a crash names its file.
"""

import json
import random
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import load_llama

FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "subprocess.Popen",
)
HUGE = (1 << 60, (1 << 64) - 1, 1 << 40, 1 << 31)


def mutate(content: bytes, kind: str, random_source: random.Random) -> bytes:
    """Return ``content`` with bytes flipped, its end cut off, or a field enlarged; mostly where headers are."""
    damaged = bytearray(content)
    where = random_source.choice((256, 4096, len(content)))
    place = random_source.randrange(min(where, len(content)))
    if random_source.random() < 0.25:  # directories of archives are at the end
        place = len(content) - 1 - place
    if kind == "truncate":
        return content[:place]
    if kind == "flip":
        for offset in range(random_source.randrange(1, 9)):
            damaged[(place + offset * 7) % len(damaged)] ^= 1 << random_source.randrange(8)
        return bytes(damaged)
    digits = [index for index, byte in enumerate(content[: 1 << 16]) if chr(byte).isdigit()]
    huge = random_source.choice(HUGE)
    if digits and content.lstrip()[:1] in b"{[":
        place = random_source.choice(digits)
        return content[:place] + str(random_source.choice((huge, -huge))).encode() + content[place + 1 :]
    damaged[place : place + 8] = huge.to_bytes(8, "little")
    return bytes(damaged[: len(content)])


def memory(field: str) -> int:
    """Return a field of this process's memory in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise KeyError(field)


def read(name: str) -> dict[str, Any]:
    """Load a model and use its tokenizer; return what came of it."""
    began = time.perf_counter()
    try:
        loaded = load_llama(name)
        if loaded.tokenizer is not None:
            loaded.tokenizer.decode(loaded.tokenizer.encode("the hen has 12 feathers"))
        outcome = {"outcome": "read"}
    except UserError as error:
        outcome = {"outcome": "refused", "message": str(error)}
    except Exception as error:
        outcome = {"outcome": "raised", "message": f"{type(error).__name__}: {error}"}
    return {**outcome, "seconds": time.perf_counter() - began}


def main() -> None:
    """Read the intact folder, then ``COUNT`` copies in which one file is damaged."""
    folder, work, file, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    where = folder / file
    intact = where.read_bytes()
    # A single GGUF file is named itself, anything else by its folder.
    target = work / "model"
    shutil.copytree(folder, target)
    name = str(target / file if file.endswith(".gguf") else target)
    print(json.dumps({"case": "intact", **read(name)}), flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (2 * memory("VmSize"), resource.RLIM_INFINITY))
    limit = 2 * memory("VmHWM")
    forbidden: list[str] = []
    watching = False

    def watch(event: str, _: Any) -> None:
        if watching and event.startswith(FORBIDDEN):
            forbidden.append(event)

    sys.addaudithook(watch)
    for seed in range(count):
        kind = ("flip", "truncate", "enlarge")[seed % 3]
        case = f"{file} {kind} {seed}"
        # A new file each time: the one before may still be mapped.
        (target / file).unlink()
        (target / file).write_bytes(mutate(intact, kind, random.Random(f"{file} {seed}")))
        print(json.dumps({"case": case, "outcome": "crashed"}), flush=True)
        forbidden.clear()
        watching = True
        result = read(name)
        watching = False
        grown = memory("VmHWM") > limit
        print(json.dumps({"case": case, **result, "executed": list(forbidden), "grown": grown}), flush=True)


if __name__ == "__main__":
    main()
