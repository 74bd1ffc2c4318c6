"""A frozen model on many ranks: one copy of its weights for a host, or a part of every layer on each rank."""

import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from mm_adapter.distributed.context import DistributedContext
from mm_adapter.llama.checkpoints.load import LoadedLlama, check_tensors, check_tokenizer, load_llama, open_source
from mm_adapter.llama.model import Llama
from mm_adapter.llama.tokenizers.chat_template import find_chat_template


def shard(llama: Llama, device: str) -> None:
    """Give every rank a part of each decoder layer, by FSDP2 (``fully_shard``), in place.

    Embedding, last norm and head stay whole on every rank: their use is not within one pass, and they are 4 % of a 7B
    model. The next layer's parts are gathered while one computes.

    Args:
        llama: frozen, the same on all ranks of the process group; in the host's memory, so that no device has to hold
            more than its parts.
        device: kind of device that the parts are moved to: cpu or cuda. What stays whole is the caller's to move.
    """
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for layer in llama.layers:
        fully_shard(layer, mesh=mesh)
    inside = {parameter for layer in llama.layers for parameter in layer.parameters()}
    whole = {parameter for parameter in llama.parameters() if parameter not in inside}
    fully_shard(llama, mesh=mesh, ignored_params=whole)
    register_fsdp_forward_method(llama, "run_layers")
    llama.sharded = True


def load_shared(name: str, dtype: torch.dtype, distributed: DistributedContext) -> LoadedLlama:
    """Load a model on the CPU of every rank, so that the ranks of a host hold its weights once.

    What has to be converted is converted by the first rank of each host, which writes it to a file that all map: a page
    of it is in memory once, however many look at it. The file has no name any more as soon as all have opened it.

    Args:
        name, dtype: as for ``load_llama``.
        distributed: the processes.

    Raises:
        UserError: as ``load_llama``.
    """
    mapped = all(
        tensor.mapped is not None and tensor.mapped.dtype == dtype
        for tensor in check_tensors(name, open_source(name)).values()
    )
    # The same decision on all hosts, whatever the processes of each: what follows, all ranks do together.
    if all(distributed.gather(mapped or distributed.local_world_size == 1)):
        return load_llama(name, dtype)
    with tempfile.TemporaryDirectory(prefix="mm-adapter-") as folder:
        path, fingerprint = Path(folder) / "weights.safetensors", ""
        if distributed.local_rank == 0:
            base = load_llama(name, dtype)
            fingerprint = base.fingerprint
            save_file(dict(base.model.state_dict()), path)
            del base
        # Ranks of one host are neighbours: its first one is local_rank places before.
        path, fingerprint = distributed.gather((path, fingerprint))[distributed.rank - distributed.local_rank]
        shared = _map(name, path, fingerprint)
        distributed.gather(None)
    return shared


def _map(name: str, path: Path, fingerprint: str) -> LoadedLlama:
    source = open_source(name)
    tokenizer = check_tokenizer(name, source)
    with torch.device("meta"):
        model = Llama(source.config)
    model.load_state_dict(load_file(path), assign=True)
    model.requires_grad_(False).eval()
    chat = None if tokenizer is None else find_chat_template(tokenizer, source.chat_template())
    return LoadedLlama(model, tokenizer, name, fingerprint, chat)
