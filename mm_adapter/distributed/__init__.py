"""The processes that share one job, as ``torchrun`` starts them; alone there is one.

Weights that they hold in parts stand in a file of their own.
"""

import gc
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from mm_adapter.core.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class DistributedContext:
    """Which of how many processes this one is, and what they tell each other.

    Attributes:
        rank: of this process, from 0.
        world_size: number of processes.
        local_rank: of this process among those of its host.
        local_world_size: number of processes of its host.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Files, logs and progress are this one's."""
        return self.rank == 0

    def shard(self, items: Sequence[Item], even: bool = False) -> Sequence[Item]:
        """Return every world_size-th item, beginning with this rank's.

        Args:
            even: give every rank as many, some of the first items twice: where each needs the others for its own.
        """
        missing = -len(items) % self.world_size if even else 0
        filled = [*items, *(items[index % len(items)] for index in range(missing))]
        return filled[self.rank :: self.world_size]

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value)
        return found

    def broadcast(self, value: Any) -> Any:
        """Return the first rank's value."""
        if self.world_size == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over ranks, in double precision."""
        if self.world_size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(sums)
        return sums.tolist()

    def device(self, name: str) -> str:
        """Return this rank's device: ``cuda`` is one accelerator for each process of a host."""
        return f"{name}:{self.local_rank}" if self.world_size > 1 and name == "cuda" else name


SINGLE_PROCESS = DistributedContext()


def check_device(name: str) -> None:
    """Make sure that ``name`` is a device of this machine.

    Raises:
        UserError: there is no such device.
    """
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used ({reason}). Choose one that this machine has.") from None


def is_main_started() -> bool:
    """Return whether this process is alone or the first that a launcher started: the one that prints."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def init_distributed(device: str = "cpu", timeout: timedelta = timedelta(minutes=30)) -> Iterator[DistributedContext]:
    """Join the processes that ``torchrun`` started, over NCCL on CUDA devices and gloo elsewhere.

    Let go of models that DDP or FSDP made within: they hold the processes' group, which is to end with this.

    Args:
        device: as the user named it; every process of a host takes one of its accelerators.
        timeout: how long to wait for the others before giving up.

    Raises:
        UserError: the others cannot be reached or went away, or there are more processes than accelerators.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        yield SINGLE_PROCESS
        return
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    missing = [name for name in names if not os.environ.get(name, "").isdecimal()]
    if missing:
        raise UserError(f"WORLD_SIZE is set, and {missing[0]} is no number; start the processes with torchrun.")
    context = DistributedContext(*(int(os.environ[name]) for name in names))
    on_cuda = device.startswith("cuda")
    if on_cuda and context.world_size > 1:
        if device != "cuda":
            raise UserError(f"device {device}: each process takes an accelerator of its own; name cuda.")
        if context.local_world_size > torch.cuda.device_count():
            raise UserError(
                f"{context.local_world_size} processes, but {torch.cuda.device_count()} CUDA devices; start fewer."
            )
        torch.cuda.set_device(context.local_rank)
    # Imported before there is a group: its functions have the group of their import as a default argument, and keep it.
    from torch.distributed import fsdp  # noqa: F401

    try:
        dist.init_process_group("nccl" if on_cuda else "gloo", timeout=timeout)
        yield context
    except BaseException as error:
        _clear_frames(error)
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _is_lost_contact(error)):
            reason = str(error).splitlines()[0]
            raise UserError(f"rank {context.rank}: lost contact with the other processes ({reason[:200]}).") from error
        raise
    finally:
        if dist.is_initialized():
            # A gloo group joins its threads when its last reference goes, and not when it is destroyed; cycles of FSDP
            # hold some. A thread that lets go of a collective's tensors while the interpreter ends aborts the process.
            gc.collect()
            dist.destroy_process_group()


def _clear_frames(error: BaseException | None) -> None:
    """Let go of what the frames hold that an error and its causes passed: a model among it cannot be collected."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _is_lost_contact(error: RuntimeError) -> bool:
    # gloo reports a peer that went away as a plain RuntimeError, told apart by its words alone.
    text = str(error).lower()
    return any(words in text for words in ("connection closed", "connection reset", "gloo", "timed out", "broken pipe"))
