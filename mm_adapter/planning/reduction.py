"""What distributed training really sums over ranks: bytes counted in PyTorch's own reduction, on two ranks of a CPU."""

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.planning.measure import random_model
from mm_adapter.planning.synthetic import random_llama, random_questions
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.task import QuestionTask

RANKS = 2


class _Losses(nn.Module):
    """The loss of questions as a module whose parameters are those that are trained."""

    def __init__(self, task: QuestionTask) -> None:
        super().__init__()
        self.trained = task.model.trained
        self._losses = task.losses

    def forward(self, count: int) -> Tensor:
        """Return the mean loss of the first ``count`` questions."""
        return self._losses(range(count), None).mean()


def reduced_bytes(shape: LlamaConfig, config: TrainingConfig, tower: TowerShape = NO_TOWER) -> int:
    """Return the bytes that ``DistributedDataParallel`` sums in a step of random questions, two ranks with gloo."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (Path(folder), shape, config, tower)
        torch.multiprocessing.spawn(_rank, arguments, nprocs=RANKS)
        return int((Path(folder) / "bytes").read_text())


def _rank(rank: int, folder: Path, shape: LlamaConfig, config: TrainingConfig, tower: TowerShape) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    model = random_model(random_llama(shape, getattr(torch, config.dtype)), config, tower)
    examples = random_questions(2, 24, 5, shape.vocab_size, tower, seed=rank)
    module = DistributedDataParallel(_Losses(QuestionTask(model, examples, examples, config)))
    sizes: list[int] = []

    def hook(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        sizes.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    module.register_comm_hook(None, hook)
    module(2).backward()
    if rank == 0:
        (folder / "bytes").write_text(str(sum(sizes)))
    dist.destroy_process_group()
