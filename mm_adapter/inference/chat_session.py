"""A conversation with a model, turn by turn, in which nothing is read twice."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import takewhile

import torch

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import ImageSource
from mm_adapter.data.conversation import USER, Turn
from mm_adapter.data.encoding import encode_later_request, encode_request
from mm_adapter.inference.generation import GenerationConfig, stream_tokens
from mm_adapter.llama.model import Prefixes
from mm_adapter.llama.tokenizers.tokenizer import TextStream, stream_texts
from mm_adapter.scoring.likelihoods import AdaptedModel

LONGEST = 4096  # positions: a cache for the 131,072 of recent models would fill the memory of most machines


class ChatSession:
    """A conversation whose keys and values are kept between turns: a turn costs its own tokens.

    The ids of a conversation stand as in training, see ``data.conversation_encoding``. Where the next turn begins with
    what the cache holds, that is not computed again, whatever was said, cut short or dropped in between.

    Args:
        model: base model or adapter.
        config: how answers are generated.
        image: picture that the conversation is about.
        context: positions of the conversation; the model's own up to ``LONGEST`` by default.
        system: what the system says before the first request; it stays when the oldest exchanges are dropped.

    Attributes:
        exchanges: each request with the ids of its answer.
        dropped: the oldest exchanges that had to make room for the last turn.

    Raises:
        UserError: the picture cannot be read or is not wanted, the model has fewer positions than ``context``, or its
            template has no place for what the system says.
    """

    def __init__(
        self,
        model: AdaptedModel,
        config: GenerationConfig | None = None,
        image: ImageSource | None = None,
        context: int | None = None,
        system: str = "",
    ) -> None:
        most = model.llama.config.context_length
        if context is not None and not 2 <= context <= most:
            raise UserError(f"context is {context}; the model has positions for 2 to {most} tokens.")
        self.model, self.config = model, config or GenerationConfig()
        self.context = min(most, LONGEST) if context is None else context
        self.exchanges: list[tuple[Turn, list[int]]] = []
        self.dropped = 0
        self._template = model.conversation_template
        if system and self._template.system_refusal:
            raise UserError(self._template.system_refusal)
        self._system = system
        self._generator = self.config.generator(model.llama.device)
        self._cache = model.llama.new_cache(1, self.context)
        self._read: list[int] = []  # ids that the cache holds, and perhaps one more
        self._prefixes: Prefixes | None = None
        self.show(image)

    def show(self, image: ImageSource | None) -> None:
        """Let the conversation, also what was said, be about another picture or none.

        Raises:
            UserError: the picture cannot be read or is not wanted; nothing changes then.
        """
        with torch.no_grad():
            features = None if image is None else self.model.image_features(image)
            prefixes = self.model.prefixes(features)
        # In this order, or an interruption would leave keys of the other picture in use.
        self._read = []
        self._prefixes = prefixes

    def reset(self) -> None:
        """Forget what was said; the picture stays."""
        self.exchanges, self.dropped = [], 0

    def reply(self, text: str) -> Generator[str, None, None]:
        """Return the answer piece by piece as it is written.

        An iterator that is closed or interrupted leaves in the conversation what was answered so far; one of which
        nothing was taken leaves the conversation as it was. It must come to an end before the next turn.

        Raises:
            UserError: the request alone does not fit into the context; nothing changes then.
        """
        request = Turn(USER, text)
        kept, prompt = self._make_room(request)
        self.dropped = len(self.exchanges) - len(kept)
        return self._answer(request, kept, prompt)

    def _answer(
        self, request: Turn, kept: list[tuple[Turn, list[int]]], prompt: list[int]
    ) -> Generator[str, None, None]:
        model = self.model
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._read, prompt, strict=False)))
        # The last token is always read: the answer follows from it.
        self._cache.truncate(min(same, len(prompt) - 1))
        limit = min(self.config.max_new_tokens, self.context - len(prompt))
        sampling, cache = self.config.sampling, self._cache
        steps = stream_tokens(
            model.llama, [prompt], model.end_tokens, self._prefixes, limit, sampling, self._generator, cache
        )
        answer = TextStream(model.tokenizer, self.config.stop_strings)
        whole = False
        try:
            for (new,) in stream_texts(steps, [answer]):
                if new:
                    yield new
            whole = True
        finally:
            self._read = prompt + answer.ids
            if whole or answer.ids:
                ids = model.tokenizer.encode_continuation(answer.text) if answer.stopped else answer.ids
                self.exchanges = [*kept, (request, ids)]

    def _make_room(self, request: Turn) -> tuple[list[tuple[Turn, list[int]]], list[int]]:
        """Return the exchanges that stay, and the ids of all up to the answer."""
        kept = list(self.exchanges)
        prompt = self._encode(kept, request)
        # An answer has a quarter of the context at least.
        if len(prompt) + min(self.config.max_new_tokens, self.context // 4) > self.context:
            # Half of it is freed, or what is left would be read anew with every turn from now on.
            while kept and len(prompt) > self.context // 2:
                kept = kept[1:]
                prompt = self._encode(kept, request)
        if len(prompt) >= self.context:
            raise UserError(f"what you said has {len(prompt)} tokens, the context is {self.context}. Say less at once.")
        return kept, prompt

    def _encode(self, exchanges: Sequence[tuple[Turn, list[int]]], request: Turn) -> list[int]:
        tokenizer, ids = self.model.tokenizer, list[int]()
        for number, (turn, answer) in enumerate([*exchanges, (request, None)]):
            if number:
                ids += encode_later_request(turn, self._template, tokenizer)
            else:
                ids += encode_request(replace(turn, system=self._system), self._template, tokenizer)
            if answer is not None:
                ids += [*answer, tokenizer.end]
        return ids
