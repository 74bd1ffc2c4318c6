"""Frozen layers that no device holds whole: each rank keeps a part, and all is there for a layer's own turn."""

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from mm_adapter.llama.model import Llama


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
    # DTensor's caches keep the mesh to the very end, and with it the group, which is to end before (init_distributed).
    # Only torch.compile looks for it here; all else finds it by its name.
    getattr(mesh, "_pg_registry", {}).clear()
    for layer in llama.layers:
        fully_shard(layer, mesh=mesh)
    inside = {parameter for layer in llama.layers for parameter in layer.parameters()}
    whole = {parameter for parameter in llama.parameters() if parameter not in inside}
    fully_shard(llama, mesh=mesh, ignored_params=whole)
    register_fsdp_forward_method(llama, "run_layers")
    llama.sharded = True
