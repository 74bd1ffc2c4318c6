"""One copy of a frozen model's weights for all ranks of a host."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mm_adapter.distributed import DistributedContext
from mm_adapter.llama.checkpoints.load import LoadedLlama, check_tensors, check_tokenizer, load_llama, open_source
from mm_adapter.llama.model import Llama
from mm_adapter.llama.tokenizers.chat_template import find_chat_template


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
