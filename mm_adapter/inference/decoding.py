"""Texts that are written together although they begin and end at different times, and with adapters of their own.

Rows join and leave between two tokens. What a row has read lies right-aligned in buffers that all rows share: the
newest position of every row is in the same column, so that a step writes one column, and older columns are masked where
a row is shorter. Keys are stored rotated by a row's own positions, so the column in which one lies means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mm_adapter.adapter.mixed_rows import mix_prefixes
from mm_adapter.core.errors import UserError
from mm_adapter.inference.generation import Sampling, finite
from mm_adapter.llama.attention import AttentionPrefix, LayerCache
from mm_adapter.llama.model import KVCache, Llama, Prefixes
from mm_adapter.llama.packing import Packing
from mm_adapter.scoring.likelihoods import ROWS

_LEFT, _RIGHT = 32, 64  # columns of room for longer prompts and for steps: beyond them everything is moved


@dataclass(frozen=True)
class TokenScore:
    """How likely a token was, by the model itself: before temperature and whatever else narrows a draw.

    Attributes:
        token: its id.
        log_probability: of it, given all before it.
        top: the likeliest ids with their log-probabilities, the likeliest first; empty where none were asked for.
    """

    token: int
    log_probability: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Row:
    """One text that is being written.

    Attributes:
        prompt: ids that it goes on from.
        ends: ids that end it; they are not written.
        limit: tokens that may be written, at least 0: at 0 the prompt is only read.
        prefixes: of its adapter and picture, for one sample; None for the base model.
        sampling: how tokens are chosen.
        generator: source of randomness where they are drawn; None for the process's own.
        scores: keep log-probabilities of what is written, and of this many likeliest tokens; None for none.
        score_prompt: keep those of the prompt's tokens, too.
        written: ids so far.
        written_scores: of each of them, and of the token that ended them, where they are kept.
        prompt_scores: of the prompt's tokens from the second on, where they are kept.
        finished: why it ended, ``stop`` (an end token) or ``length``; None while it goes on.
    """

    prompt: Sequence[int]
    ends: frozenset[int]
    limit: int
    prefixes: Prefixes | None = None
    sampling: Sampling = field(default_factory=Sampling)
    generator: torch.Generator | None = None
    scores: int | None = None
    score_prompt: bool = False
    written: list[int] = field(default_factory=list)
    written_scores: list[TokenScore] = field(default_factory=list)
    prompt_scores: list[TokenScore] = field(default_factory=list)
    finished: str | None = None

    def take(self, token: int, log_probabilities: Tensor | None) -> None:
        """Add the next token, or end."""
        if log_probabilities is not None:
            self.written_scores.append(_score(token, log_probabilities, self.scores or 0))
        if token in self.ends:
            self.finished = "stop"
            return
        self.written.append(token)
        if len(self.written) >= self.limit:
            self.finished = "length"


def longest_sequence(llama: Llama) -> int:
    """Return how many tokens a sequence may have: positions beyond would be refused, or computed otherwise."""
    context, limit = llama.config.context_length, llama.config.position_limit
    return context if limit is None else min(context, limit)


def _score(token: int, log_probabilities: Tensor, count: int) -> TokenScore:
    top = log_probabilities.topk(min(count, len(log_probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return TokenScore(token, float(log_probabilities[token]), tuple(pairs))


class DecodingBatch:
    """Rows that are written on together by one decoder.

    Args:
        llama: the frozen model; adapters that share it may be mixed.

    Attributes:
        rows: those that go on.
    """

    def __init__(self, llama: Llama) -> None:
        self.llama = llama
        self.rows: list[Row] = []
        config = llama.config
        shape = (0, config.num_kv_heads, 0, config.head_dim)
        # Of each layer, keys and values (rows, Hkv, columns, head_dim).
        self._buffers = [
            tuple(torch.zeros(shape, dtype=llama.dtype, device=llama.device) for _ in range(2))
            for _ in range(config.num_layers)
        ]
        self._end = 0  # the column behind the newest
        self._lengths: list[int] = []  # positions of each row
        self._prefixes: list[AttentionPrefix | None] | None = None

    @torch.no_grad()
    def join(self, rows: Sequence[Row]) -> None:
        """Read the prompts of new rows, packed without padding, and write the first token of each.

        Raises:
            UserError: a prompt is empty, or more than the model takes with what may be written; no row joins then.
        """
        most = longest_sequence(self.llama)
        for row in rows:
            if not row.prompt:
                raise UserError("an empty prompt cannot be continued; give some text.")
            if len(row.prompt) + row.limit > most:
                raise UserError(f"the prompt has {len(row.prompt)} tokens, and {row.limit} more are more than {most}.")
        lengths = [len(row.prompt) for row in rows]
        cache = self._read(rows, lengths)
        going = [place for place, row in enumerate(rows) if row.finished is None]
        if not going:
            return
        starts = [sum(lengths[:place]) for place in range(len(rows))]
        self._reserve(len(self.rows) + len(going), max(lengths[place] for place in going))
        for slot, place in enumerate(going, start=len(self.rows)):
            first, length = starts[place], lengths[place]
            for buffers, layer in zip(self._buffers, cache.layers, strict=True):
                for buffer, heads in zip(buffers, (layer.keys, layer.values), strict=True):
                    buffer[slot, :, self._end - length : self._end] = heads[0, :, first : first + length]
        self.rows += [rows[place] for place in going]
        self._lengths += [lengths[place] for place in going]
        self._mix()

    @torch.no_grad()
    def step(self) -> None:
        """Write one token of every row; rows that end by it leave."""
        if not self.rows:
            return
        self._reserve(len(self.rows), max(self._lengths))
        device, count = self.llama.device, len(self.rows)
        oldest = self._end - max(self._lengths)
        views = [LayerCache(*(buffer[:count, :, oldest:] for buffer in buffers)) for buffers in self._buffers]
        cache = KVCache(views)
        cache.advance(self._end - oldest)
        tokens = torch.tensor([[row.written[-1]] for row in self.rows], device=device)
        lengths = torch.tensor(self._lengths, device=device)
        columns = torch.arange(self._end + 1 - oldest, device=device)
        mask = None
        if len(set(self._lengths)) > 1:
            mask = (columns >= self._end - oldest - lengths[:, None])[:, None, None]  # (B, 1, 1, S)
        hidden_states = self.llama.run_layers(
            self.llama.embedding(tokens), lengths[:, None], mask, self._prefixes, cache
        )  # (B, 1, D)
        self._end += 1
        self._lengths = [length + 1 for length in self._lengths]
        self._choose(self.rows, self.llama.logits(hidden_states[:, -1]).float())
        self._leave([row for row in self.rows if row.finished is not None])

    def drop(self, row: Row) -> None:
        """Write no further on a row; one that has left already is no error."""
        self._leave([row] if row in self.rows else [])

    def _read(self, rows: Sequence[Row], lengths: Sequence[int]) -> KVCache:
        """Pass packed prompts through the model; choose the first token of each."""
        device = self.llama.device
        packing = Packing.build(lengths, None, [None] * len(lengths)).to(device)
        tokens = torch.tensor([[token for row in rows for token in row.prompt]], device=device)  # (1, N)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        prefixes = mix_prefixes([row.prefixes for row in rows], self.llama.config.num_layers)
        cache = self.llama.new_cache(1, tokens.shape[1])
        last = torch.tensor(lengths).cumsum(0).to(device) - 1  # (B,)
        all_wanted = any(row.score_prompt for row in rows)
        hidden_states = self.llama.run_layers(
            self.llama.embedding(tokens), positions, packing, prefixes, cache, wanted=None if all_wanted else last
        )[0]  # (N or B, D)
        if all_wanted:
            for row, states in zip(rows, hidden_states.split(list(lengths)), strict=True):
                if row.score_prompt:
                    row.prompt_scores = self._score_prompt(row, states)
            hidden_states = hidden_states[last]
        self._choose(rows, self.llama.logits(hidden_states).float())
        return cache

    def _score_prompt(self, row: Row, hidden_states: Tensor) -> list[TokenScore]:
        found: list[TokenScore] = []
        # In slices: of a long prompt all logits would take hundreds of megabytes.
        for states in hidden_states[:-1].split(ROWS):
            targets = row.prompt[len(found) + 1 :]
            table = self.llama.logits(states).float().log_softmax(dim=-1)
            found += [_score(token, line, row.scores or 0) for token, line in zip(targets, table, strict=False)]
        return found

    def _choose(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Choose the next token of each row from ``(B, V)`` float32 logits."""
        likeliest = finite(logits).argmax(dim=-1).tolist()
        for place, row in enumerate(rows):
            if row.limit == 0:
                row.finished = "length"
                continue
            own, token = logits[place : place + 1], likeliest[place]
            if row.sampling != Sampling():
                token = int(row.sampling.choose(own, [[*row.prompt, *row.written]], row.generator))
            row.take(token, None if row.scores is None else own[0].log_softmax(dim=-1))

    def _reserve(self, count: int, longest: int) -> None:
        """Make room for ``count`` rows, of up to ``longest`` positions now and one more."""
        there = self._buffers[0][0]
        if count <= there.shape[0] and longest <= self._end < there.shape[2]:
            return
        slots = there.shape[0] if count <= there.shape[0] else max(count, 2 * len(self.rows))
        kept = max(self._lengths, default=0)
        # Room on the left for a longer prompt that joins, on the right for what is written.
        end = max(kept, longest) + _LEFT
        for index, buffers in enumerate(self._buffers):
            moved = []
            for buffer in buffers:
                fresh = buffer.new_zeros(slots, buffer.shape[1], end + _RIGHT, buffer.shape[3])
                if kept:
                    held = buffer[: len(self.rows), :, self._end - kept : self._end]
                    fresh[: len(self.rows), :, end - kept : end] = held
                moved.append(fresh)
            self._buffers[index] = tuple(moved)
        self._end = end

    def _leave(self, leaving: Sequence[Row]) -> None:
        """Take rows out; the last ones move into their slots."""
        for row in leaving:
            slot, last = self.rows.index(row), len(self.rows) - 1
            length = self._lengths[last]
            if slot != last:
                for buffers in self._buffers:
                    for buffer in buffers:
                        buffer[slot, :, self._end - length : self._end] = buffer[
                            last, :, self._end - length : self._end
                        ]
                self.rows[slot], self._lengths[slot] = self.rows[last], length
            self.rows.pop()
            self._lengths.pop()
        if leaving:
            self._mix()

    def _mix(self) -> None:
        self._prefixes = mix_prefixes([row.prefixes for row in self.rows], self.llama.config.num_layers)
