"""Adapters with open gates for any base, and a server process of them: what the checks of serving ask."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from tiny import kill_all

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.templates import Prompting
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import LoadedLlama
from mm_adapter.model import MultimodalLlama
from mm_adapter.vision import ImageTower, VisionConfig

ROOT = Path(__file__).resolve().parent.parent
TOWER = "efficientnet-lite0"
LAYERS, PROMPT_LENGTH = 30, 10
KINDS: dict[str, Prompting | ConversationPrompting] = {
    "sees": Prompting(),
    "letters": Prompting("QCM-A", "letter"),
    "talks": ConversationPrompting("alpaca"),
}
"""Adapter -> how it is asked; the first one sees pictures."""


def write_adapters(folder: Path, base: LoadedLlama, one_gate: Collection[str] = ()) -> dict[str, Path]:
    """Write an untrained adapter of every kind, with gates that change what the model says; return name -> folder.

    Args:
        one_gate: names of those whose heads share the gate of their layer, as PEFT's format wants it.
    """
    tower = ImageTower(VisionConfig(TOWER))
    found = {}
    for seed, (name, prompting) in enumerate(KINDS.items()):
        sees = name == "sees"
        width = tower.blank_features().shape[-1] if sees else 0
        layers = min(LAYERS, base.model.config.num_layers)
        adapter = Adapter(AdapterConfig(layers, PROMPT_LENGTH, image_size=width), base.model.config, seed=seed)
        assert adapter.gates is not None
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            gates = 0.3 * torch.randn(adapter.gates.shape, generator=generator)
            adapter.gates.copy_(gates[:, :1].expand_as(gates) if name in one_gate else gates)
        vision = {"vision": tower.config, "vision_fingerprint": tower.fingerprint, "tower": tower} if sees else {}
        found[name] = folder / name
        MultimodalLlama(base, adapter, prompting=prompting, **vision).save_pretrained(found[name])  # type: ignore[arg-type]
    return found


class ServerProcess:
    """``mm-adapter serve``, or another server that takes its options, in a process of its own.

    Args:
        llama: of the base.
        adapters: name -> folder.
        log: file for what it says.
        options: more of its options.
        program: what Python runs.

    Attributes:
        url: where it is asked.
        peak: bytes of memory that it has used at most, as far as ``watch`` looked.
    """

    def __init__(
        self,
        llama: str,
        adapters: dict[str, Path],
        log: Path,
        *options: str,
        program: Sequence[str] = ("-m", "mm_adapter", "serve"),
    ) -> None:
        named = [word for name, folder in adapters.items() for word in ("--adapter", f"{name}={folder}")]
        command = [sys.executable, *program, "--llama", llama, *named, "--port", "0", *options]
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with open(log, "wb") as file:
            environment = {**os.environ, "PYTHONPATH": paths}
            self._process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        self.peak = 0
        while "serving on http" not in log.read_text():
            if self._process.poll() is not None:
                raise SystemExit(f"the server did not begin:\n{log.read_text()}")
            time.sleep(0.05)
        self.url = log.read_text().split("serving on ")[1].split()[0]

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        return self._process.poll()

    def watch(self) -> int:
        """Return the bytes of memory that it uses now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        used = int(status.split("VmRSS:")[1].split()[0]) * 1024
        self.peak = max(self.peak, used)
        return used

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Return its exit status."""
        return self._process.wait(seconds)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        kill_all(self._process)
