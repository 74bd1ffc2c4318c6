"""Writing text token by token, with a cache, for one prompt or a batch of different lengths."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.llama.attention import AttentionPrefix
from mm_adapter.llama.model import Llama


@torch.no_grad()
def generate_tokens(
    llama: Llama,
    prompts: Sequence[Sequence[int]],
    end: int | Collection[int],
    prefixes: list[AttentionPrefix | None] | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Continue every prompt until its end token or ``max_new_tokens``.

    The prefixes' keys and values are computed by the caller, once for all steps.

    Args:
        llama: the frozen model.
        prompts: token ids; different lengths are welcome.
        end: id or ids that end a continuation; they are not part of the result.
        prefixes: of the adapter, one per decoder layer.
        max_new_tokens: limit of each continuation.
        temperature: 0 for the most likely token; else sampling from the softmax at that temperature.
        generator: source of randomness for sampling.

    Raises:
        UserError: a prompt is empty, or it is longer than the model's context.
    """
    stops = {end} if isinstance(end, int) else set(end)
    longest = max(map(len, prompts), default=0)
    if not prompts:
        return []
    if not all(prompts):
        raise UserError("an empty prompt cannot be continued; give some text.")
    if longest >= llama.config.context_length:
        raise UserError(f"the prompt has {longest} tokens, the model's context is {llama.config.context_length}.")
    max_new_tokens = min(max_new_tokens, llama.config.context_length - longest)
    tokens, padding = _left_padded(prompts, longest, llama.device)
    capacity = longest + max_new_tokens
    cache = llama.new_cache(len(prompts), capacity)
    visible = _mask(padding, capacity) if bool(padding.any()) else None
    results: list[list[int]] = [[] for _ in prompts]
    running = [True] * len(prompts)
    positions = (torch.arange(longest, device=llama.device) - padding[:, None]).clamp(min=0)
    start = 0
    for _ in range(max_new_tokens):
        stop = start + tokens.shape[1]
        mask = None if visible is None else visible[:, :, start:stop, :stop]
        hidden_states = llama.run_layers(llama.embedding(tokens), positions, mask, prefixes, cache)
        chosen = _choose(llama.logits(hidden_states[:, -1]).float(), temperature, generator)
        for index, token in enumerate(chosen.tolist()):
            running[index] = running[index] and token not in stops
            if running[index]:
                results[index].append(token)
        if not any(running):
            break
        tokens, positions, start = chosen[:, None], positions[:, -1:] + 1, stop
    return results


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature <= 0:
        return logits.argmax(dim=-1)
    return torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator)[:, 0]


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
