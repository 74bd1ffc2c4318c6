"""Generate text token by token, with a cache, for one prompt or a batch of different lengths.

The next token is the most likely one, or a seeded draw from what sampling leaves of the distribution.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.llama.model import KVCache, Llama, Prefixes
from mm_adapter.llama.packing import Packing


def finite(values: Tensor) -> Tensor:
    """Return what a model computed, where all of it are numbers.

    Raises:
        UserError: a value is infinite or none: nothing could be chosen by it.
    """
    if not values.isfinite().all():
        raise UserError(
            "the model computes values that are not finite: its weights are damaged, or too large for this precision. "
            "Compute in float32 or bfloat16 (--dtype), or fetch the model again."
        )
    return values


@dataclass(frozen=True)
class Sampling:
    """How a next token is chosen.

    Attributes:
        temperature: 0 for the most likely token; else, from 1e-5 up, logits are divided by it before the draw.
        top_k: draw from this many most likely tokens alone; 0 for all.
        top_p: draw from the fewest tokens whose probabilities reach this sum (arXiv 1904.09751, section 3.1).
        repetition_penalty: from 0.01 to 100; over 1 makes tokens that stand in prompt or answer less likely
            (arXiv 1909.05858, section 4.1): positive logits are divided by it, negative ones multiplied.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        # Less would leave the range of float32 when logits are divided by it.
        if self.temperature != 0 and not 1e-5 <= self.temperature < float("inf"):
            raise UserError(f"temperature is {self.temperature}; it must be 0, or at least 1e-5 and finite.")
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}; it must be 0 (all tokens) or a number of tokens.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; it must be over 0 and at most 1.")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise UserError(f"repetition_penalty is {self.repetition_penalty}; it must be from 0.01 to 100.")

    def choose(self, logits: Tensor, seen: Sequence[Sequence[int]], generator: torch.Generator | None = None) -> Tensor:
        """Return the next token of each row, ``(B,)`` int64.

        Args:
            logits: ``(B, V)`` float32.
            seen: token ids of each row so far.
            generator: source of randomness where tokens are drawn.

        Raises:
            UserError: a logit is not finite.
        """
        logits = finite(logits)
        if self.repetition_penalty != 1:
            logits = self._penalise(logits, seen)
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        probabilities = self._narrow(logits / self.temperature).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    def _penalise(self, logits: Tensor, seen: Sequence[Sequence[int]]) -> Tensor:
        logits = logits.clone()
        for row, ids in zip(logits, seen, strict=True):
            chosen = torch.tensor(sorted(set(ids)), device=logits.device, dtype=torch.int64)
            values = row[chosen]
            row[chosen] = torch.where(values > 0, values / self.repetition_penalty, values * self.repetition_penalty)
        return logits

    def _narrow(self, logits: Tensor) -> Tensor:
        """Put what must not be drawn at minus infinity; the most likely token always stays."""
        if self.top_k and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            probabilities = ordered.softmax(dim=-1)
            before = probabilities.cumsum(dim=-1) - probabilities
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= self.top_p)
            logits = logits.masked_fill(dropped, float("-inf"))
        return logits


_SEEDS = 1 << 63


@dataclass(frozen=True)
class GenerationConfig:
    """How a text is written.

    Attributes:
        max_new_tokens: limit of its length.
        sampling: how tokens are chosen; the most likely one by default.
        stop_strings: strings that end it; they are not part of it.
        seed: of the draws; None for another text each time.
    """

    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    stop_strings: Sequence[str] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1.")
        if not all(self.stop_strings):
            raise UserError("a stop string is empty, so there would be no text; leave it out.")
        if self.seed is not None and not 0 <= self.seed < _SEEDS:
            raise UserError(f"seed is {self.seed}; it must be from 0 to {_SEEDS - 1}.")

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Return the source of randomness; None for the process's own."""
        return None if self.seed is None else torch.Generator(device).manual_seed(self.seed)


@dataclass(frozen=True)
class GenerationResult:
    """A text that a model wrote.

    Attributes:
        text: without the stop string that ended it.
        tokens: how many were written for it.
        finished: it came to its end, and was not cut off at a limit.
    """

    text: str
    tokens: int
    finished: bool


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
    ends = {end} if isinstance(end, int) else set(end)
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
    start = 0 if cache is None else cache.length
    cache = llama.new_cache(len(prompts), longest + max_new_tokens) if cache is None else cache
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=llama.device)
    padding = None if all(len(prompt) == longest for prompt in prompts) else longest - lengths
    if padding is None:
        tokens = torch.tensor([list(prompt) for prompt in prompts], device=llama.device)[:, start:]
        positions = torch.arange(start, longest, device=llama.device)
        last = torch.tensor([longest - start - 1], device=llama.device)
        states = llama.run_layers(llama.embedding(tokens), positions, None, prefixes, cache, wanted=last)[:, 0]
    else:
        states, read = read_prompts(llama, prompts, prefixes)  # (B, D)
        _align_right(read, cache, [len(prompt) for prompt in prompts])
        del read  # as large as what the prompts take in the cache; it would stay as long as anything is written
    seen = [list(prompt) for prompt in prompts]
    running = [True] * len(prompts)
    for count in range(max_new_tokens):
        chosen = sampling.choose(llama.logits(states).float(), seen, generator)
        step: list[int | None] = []
        for index, token in enumerate(chosen.tolist()):
            running[index] = running[index] and token not in ends and count < limits[index]
            step.append(token if running[index] else None)
            if running[index]:
                seen[index].append(token)
        if not any(running):
            return
        yield step
        if count + 1 < max_new_tokens:
            mask = None
            if padding is not None:
                columns = torch.arange(longest + count + 1, device=llama.device)
                mask = (columns >= padding[:, None])[:, None, None]  # (B, 1, 1, S)
            positions = (lengths + count)[:, None]  # (B, 1)
            states = llama.run_layers(llama.embedding(chosen[:, None]), positions, mask, prefixes, cache)[:, 0]


def read_prompts(
    llama: Llama, prompts: Sequence[Sequence[int]], prefixes: Prefixes | None, every: bool = False
) -> tuple[Tensor, KVCache]:
    """Pass prompts through the model one after another, without padding.

    Returns:
        The last layer's output at the last token of each, ``(B, D)``, or at ``every`` token, ``(N, D)``; and the cache,
        in which they lie one after another in one row.
    """
    lengths = [len(prompt) for prompt in prompts]
    packing = Packing.build(lengths, None, [None] * len(lengths)).to(llama.device)
    tokens = torch.tensor([[token for prompt in prompts for token in prompt]], device=llama.device)  # (1, N)
    positions = torch.cat([torch.arange(length) for length in lengths]).to(llama.device)
    cache = llama.new_cache(1, tokens.shape[1])
    last = None if every else torch.tensor(lengths).cumsum(0).to(llama.device) - 1  # (B,)
    return llama.run_layers(llama.embedding(tokens), positions, packing, prefixes, cache, wanted=last)[0], cache


def _align_right(packed: KVCache, cache: KVCache, lengths: Sequence[int]) -> None:
    """Copy sequences that lie one after another into a row each, so that all end in the same column."""
    longest = max(lengths)
    for source, target in zip(packed.layers, cache.layers, strict=True):
        for packed_heads, heads in ((source.keys, target.keys), (source.values, target.values)):
            for row, own in enumerate(packed_heads.split(list(lengths), dim=2)):
                heads[row, :, longest - lengths[row] : longest] = own[0]
    cache.advance(longest)
