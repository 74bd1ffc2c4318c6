"""lm-evaluation-harness on a base model or an adapter, by this project's own scoring.

    python -m mm_adapter.harness.lm_eval_model run --model mm-adapter --model_args adapter=RUN --tasks arc_easy

Continuations of the same context share one pass over it, as options of a question do. Prompts are those of the task,
word for word, and no picture is shown.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from mm_adapter.core.errors import UserError
from mm_adapter.core.progress import with_progress
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.harness.generation_settings import TEXTS, read_generation
from mm_adapter.harness.packed_scores import score_continuations
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.batching import collate, token_batches

_NEW_TOKENS = 256  # of a text, unless the task says otherwise: the harness's own default

Pair = tuple[list[int], list[int]]


@register_model("mm-adapter")
class LlamaAdapterLM(TemplateLM):
    """A model for lm-evaluation-harness (lm-eval).

    Args:
        adapter: run folder; None for the base model.
        llama: base model; None for the adapter's own, or the default model.
        dtype: of the frozen weights.
        device: where they live; the processor where CUDA is named and absent.
        token_budget: tokens of a pass.
        batch_size, max_batch_size: what the harness hands on; a pass is measured in tokens here, so they say nothing.
        model: one that is loaded already, in place of ``adapter`` and ``llama``.

    Raises:
        UserError: as ``MultimodalLlama.from_pretrained``.
    """

    def __init__(
        self,
        adapter: str | None = None,
        llama: str | None = None,
        dtype: str = "float32",
        device: str | None = "cpu",
        token_budget: int | str = 4096,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        model: MultimodalLlama | None = None,
    ) -> None:
        super().__init__()
        if device is None or (device.startswith("cuda") and not torch.cuda.is_available()):
            device = "cpu"  # the harness names cuda:0 wherever it runs
        self.model = model or MultimodalLlama.from_pretrained(llama, adapter, dtype=dtype, device=device)
        self.token_budget = int(token_budget)

    @property
    def eot_token_id(self) -> int:
        """Id of the token that ends a text."""
        return self.model.tokenizer.end

    @property
    def prefix_token_id(self) -> int:
        """Id that a text without context begins with: the model's first token, else the end of another text."""
        stated = self.model.llama.config.begin_token
        return next(iter(self.model.tokenizer.begin), self.eot_token_id if stated is None else stated)

    @property
    def max_length(self) -> int:
        """Tokens that the base model can read."""
        return self.model.llama.config.context_length

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the ids of a text, after the model's first token unless ``add_special_tokens`` is False."""
        tokenizer = self.model.tokenizer
        begin = () if add_special_tokens is False else tokenizer.begin
        return [*begin, *tokenizer.encode(string)]

    @torch.no_grad()
    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """Return log-likelihood of each continuation, and whether every token of it is the likeliest.

        What is longer than the model can read loses its beginning, as in the harness's own models.
        """
        pairs = [self._cut(context, continuation) for _, context, continuation in requests]
        groups = [
            (list(context), [place for place, _ in members])
            for context, members in groupby(enumerate(pairs), key=lambda member: member[1][0])
        ]
        questions = [_as_question(context, [pairs[place][1] for place in places]) for context, places in groups]
        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        batches = token_batches([question.length for question in questions], self.token_budget)
        for indices in batches if disable_tqdm else with_progress(batches, "log-likelihoods", "batch"):
            batch = collate([questions[index] for index in indices], with_tail=False)
            places = [place for index in indices for place in groups[index][1]]
            for place, found in zip(places, score_continuations(self.model, batch), strict=True):
                results[place] = (found.log_likelihood, found.greedy)
        return results

    def _cut(self, context: list[int], continuation: list[int]) -> Pair:
        if not continuation or len(continuation) > self.max_length:
            raise UserError(
                f"a continuation has {len(continuation)} tokens; it must have 1 to {self.max_length}, no more than the "
                "model can read."
            )
        # The last token is predicted and not read.
        room = self.max_length + 1 - len(continuation)
        return context[-room:], continuation

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each whole text, in windows of what the model can read."""
        windows: list[tuple[None, list[int], list[int]]] = []
        counts: list[int] = []
        for request in requests:
            tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            parts = list(get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1))
            windows += [(None, *make_disjoint_window(part)) for part in parts]
            counts.append(len(parts))
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        return [sum(next(scores)[0] for _ in range(count)) for count in counts]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Write on from each context, up to a stop string, an end token or the task's number of tokens."""
        results = [""] * len(requests)
        by_length = sorted(range(len(requests)), key=lambda index: (str(requests[index].args[1]), index))
        groups = [list(group) for _, group in groupby(by_length, key=lambda index: str(requests[index].args[1]))]
        parts = [group[start : start + TEXTS] for group in groups for start in range(0, len(group), TEXTS)]
        for part in parts if disable_tqdm else with_progress(parts, "texts", "batch"):
            asked = read_generation(requests[part[0]].args[1], "max_gen_toks", _NEW_TOKENS)
            room = self.max_length - asked.limit
            if room < 1:
                raise UserError(
                    f"max_gen_toks is {asked.limit}; prompt and text must fit into {self.max_length} tokens."
                )
            prompts = [self.tok_encode(requests[index].args[0])[-room:] for index in part]
            written = self.model.generate(
                prompts, max_new_tokens=asked.limit, sampling=asked.sampling, stop_strings=asked.until
            )
            for index, text in zip(part, written, strict=True):
                results[index] = text
        return results


def _as_question(context: Sequence[int], continuations: Sequence[Sequence[int]]) -> EncodedQuestion:
    question = Question("", "", ("",) * len(continuations), answer=-1)
    return EncodedQuestion(question, tuple(context), tuple(map(tuple, continuations)), ())


if __name__ == "__main__":
    cli_evaluate()
