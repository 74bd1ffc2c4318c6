"""What an engine is asked to do, and what it returns."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.inference.answer import Answer
from mm_adapter.inference.decoding import TokenScore
from mm_adapter.inference.generation import Sampling
from mm_adapter.inference.prompt_look import PromptLook


@dataclass(frozen=True)
class Picture:
    """A picture as it came: decoded, all that wait would fill the memory.

    Attributes:
        content: of its file.
        key: the same for the same bytes.
    """

    content: bytes
    key: str


@dataclass(frozen=True)
class Timing:
    """Seconds that a request waited in the queue, and until it was done from then on."""

    waited: float
    computed: float


@dataclass(eq=False)
class Job:
    """A request in the queue.

    Attributes:
        model: name of the adapter, or ``base``.
        picture: what it is about; None without.
        gate_scale: what the adapter's gates are multiplied by: 0 is the base model, asked as the adapter is.
        attention: tell which prompts the answer looks at, see ``inference.prompt_look``.
        future: of the result.
        given_up: nobody waits for the result any more: nothing further is computed for it.
        arrived, started: on the monotonic clock.
    """

    model: str
    picture: Picture | None = None
    gate_scale: float = field(default=1.0, kw_only=True)
    attention: bool = field(default=False, kw_only=True)
    future: "Future[Any]" = field(default_factory=Future, init=False)
    given_up: bool = field(default=False, init=False)
    arrived: float = field(default_factory=time.monotonic, init=False)
    started: float = field(default=0.0, init=False)

    def timing(self) -> Timing:
        """Return how long it has taken."""
        return Timing(self.started - self.arrived, time.monotonic() - self.started)


@dataclass(eq=False, kw_only=True)
class ChooseJob(Job):
    """Choose the likeliest option of a question; the result is an ``Answered``."""

    question: EncodedQuestion


@dataclass(frozen=True)
class Answered:
    """A choice, how long it took, and where it looked if that was wanted."""

    answer: Answer
    timing: Timing
    attention: PromptLook | None = None


@dataclass(frozen=True)
class Piece:
    """What a token added to a text.

    Attributes:
        text: often empty: part of a character, or of what may be a stop string.
        scores: of the tokens since the last piece, where they were asked for.
    """

    text: str
    scores: tuple[TokenScore, ...] = ()


@dataclass(eq=False, kw_only=True)
class WriteJob(Job):
    """Continue a prompt; the result is a ``Written``.

    Attributes:
        prompt: ids.
        limit: tokens that may be written.
        sampling: how they are chosen.
        seed: of the draws; None for another text each time.
        stop_strings: that end the text; they are not part of it.
        scores: return log-probabilities, and those of this many likeliest tokens; None for none.
        score_prompt: also those of the prompt.
        on_piece: is called in the engine's thread with every piece.
    """

    prompt: Sequence[int]
    limit: int
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    stop_strings: Sequence[str] = ()
    scores: int | None = None
    score_prompt: bool = False
    on_piece: Callable[[Piece], None] | None = None

    @property
    def positions(self) -> int:
        """How many the text takes at most, with its prompt."""
        return len(self.prompt) + self.limit


@dataclass(frozen=True)
class Written:
    """A text that was written.

    Attributes:
        text: without the stop string that ended it.
        ids: that were written for it.
        finished: ``stop`` or ``length``.
        scores, prompt_scores: see ``inference.decoding.Row``; empty where they were not asked for.
        timing: of it.
        attention: where its first token looked, if that was wanted.
    """

    text: str
    ids: tuple[int, ...]
    finished: str
    scores: tuple[TokenScore, ...]
    prompt_scores: tuple[TokenScore, ...]
    timing: Timing
    attention: PromptLook | None = None
