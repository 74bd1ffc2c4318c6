"""Writing text token by token, with a cache, for one prompt or a batch of different lengths."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.llama.model import KVCache, Llama, Prefixes
from mm_adapter.sampling import Sampling


def generate_tokens(
    llama: Llama,
    prompts: Sequence[Sequence[int]],
    end: int | Collection[int],
    prefixes: Prefixes | None = None,
    max_new_tokens: int = 64,
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Continue every prompt until its end token or ``max_new_tokens``; arguments as in ``stream_tokens``."""
    results: list[list[int]] = [[] for _ in prompts]
    for step in stream_tokens(llama, prompts, end, prefixes, max_new_tokens, sampling, generator):
        for result, token in zip(results, step, strict=True):
            if token is not None:
                result.append(token)
    return results


@torch.no_grad()
def stream_tokens(
    llama: Llama,
    prompts: Sequence[Sequence[int]],
    end: int | Collection[int],
    prefixes: Prefixes | None = None,
    max_new_tokens: int = 64,
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
    cache: KVCache | None = None,
) -> Iterator[list[int | None]]:
    """Yield the next token of every prompt, None for those that have ended, until all have.

    The prefixes' keys and values are computed by the caller, once for all steps.

    Args:
        llama: the frozen model.
        prompts: token ids; different lengths are welcome.
        end: id or ids that end a continuation; they are not yielded.
        prefixes: of the adapter, one per decoder layer.
        max_new_tokens: limit of each continuation.
        sampling: how tokens are chosen; the most likely one by default.
        generator: source of randomness for sampling.
        cache: holds a beginning of a single prompt already, which is not computed again; what is read and written here
            is added to it, but for the last token. None for a fresh one.

    Raises:
        UserError: a prompt is empty, or it is longer than the model's context.
    """
    stops = {end} if isinstance(end, int) else set(end)
    sampling = sampling or Sampling()
    if not prompts:
        return
    longest = max(map(len, prompts))
    if not all(prompts):
        raise UserError("an empty prompt cannot be continued; give some text.")
    if longest >= llama.config.context_length:
        raise UserError(f"the prompt has {longest} tokens, the model's context is {llama.config.context_length}.")
    # A short prompt beside a long one has the room that it has alone.
    limits = [min(max_new_tokens, llama.config.context_length - len(prompt)) for prompt in prompts]
    max_new_tokens = max(limits)
    tokens, padding = _left_padded(prompts, longest, llama.device)
    capacity = longest + max_new_tokens
    start = 0 if cache is None else cache.length
    cache = llama.new_cache(len(prompts), capacity) if cache is None else cache
    visible = _mask(padding, capacity) if bool(padding.any()) else None
    seen = [list(prompt) for prompt in prompts]
    running = [True] * len(prompts)
    positions = (torch.arange(longest, device=llama.device) - padding[:, None]).clamp(min=0)
    tokens, positions = tokens[:, start:], positions[:, start:]
    for count in range(max_new_tokens):
        stop = start + tokens.shape[1]
        mask = None if visible is None else visible[:, :, start:stop, :stop]
        last = torch.tensor([tokens.shape[1] - 1], device=llama.device)
        hidden_states = llama.run_layers(llama.embedding(tokens), positions, mask, prefixes, cache, wanted=last)
        chosen = sampling.choose(llama.logits(hidden_states[:, -1]).float(), seen, generator)
        step: list[int | None] = []
        for index, token in enumerate(chosen.tolist()):
            running[index] = running[index] and token not in stops and count < limits[index]
            step.append(token if running[index] else None)
            if running[index]:
                seen[index].append(token)
        if not any(running):
            return
        yield step
        tokens, positions, start = chosen[:, None], positions[:, -1:] + 1, stop


def _left_padded(prompts: Sequence[Sequence[int]], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    padding = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    return torch.tensor(rows, device=device), padding


def _mask(padding: Tensor, capacity: int) -> Tensor:
    """Return ``(B, 1, capacity, capacity)``: causal, padding unseen but by itself (an empty row would be NaN)."""
    keys = torch.arange(capacity, device=padding.device)
    causal = keys[None, :] <= keys[:, None]
    real = keys[None, None, :] >= padding[:, None, None]
    return ((causal & real) | torch.eye(capacity, dtype=torch.bool, device=padding.device))[:, None]
