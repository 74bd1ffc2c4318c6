"""lmms-eval on a base model or an adapter, with pictures, by this project's own scoring.

    lmms-eval --model mm-adapter --model_args adapter=RUN --tasks TASK

An adapter is asked as it was taught: the task's text is the question, in the adapter's template, and choices are ranked
as ``mm-adapter evaluate`` ranks options. lmms-eval finds the class by ``lmms_eval_plugin``.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from torch import Tensor

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.progress import with_progress
from mm_adapter.data.question import Question
from mm_adapter.harness.choice_requests import ChoiceRequest, choice_losses
from mm_adapter.harness.generation_settings import TEXTS, read_generation
from mm_adapter.inference.answer import free_prompt, stack_images
from mm_adapter.model import MultimodalLlama

_NEW_TOKENS = 256  # of a text, unless the task says otherwise
PROMPTS = ("template", "raw")


class Loss(NamedTuple):
    """What is said of a choice.

    Attributes:
        loss: lowest for the best choice of a document.
        greedy: the model would write this choice.
    """

    loss: float
    greedy: bool

    def strip(self) -> str:
        """Return nothing: lmms-eval's cache asks, and would give back a list that it makes a text of."""
        return ""


class MultimodalAdapter(lmms):
    """A model for lmms-eval.

    Args:
        adapter: run folder, or ``hub:owner/name``; None for the base model.
        llama: base model; None for the adapter's own, or the default model.
        dtype: of the frozen weights.
        device: where they live; the processor where CUDA is named and absent.
        token_budget: tokens of a pass.
        prompt: ``template`` (the task's text is a question, asked as the adapter was taught) or ``raw`` (the text word
            for word).
        question: column of the documents that holds the question, in place of the task's text.
        context: column that holds what goes with it, such as ScienceQA's ``hint``; None where there is nothing.
        batch_size, max_batch_size: what lmms-eval hands on; a pass is measured in tokens here, so they say nothing.
        model: one that is loaded already, in place of ``adapter`` and ``llama``.

    Raises:
        UserError: an unknown prompt, columns where the text is taken word for word; or as
            ``MultimodalLlama.from_pretrained``.
    """

    def __init__(
        self,
        adapter: str | None = None,
        llama: str | None = None,
        dtype: str = "float32",
        device: str | None = "cpu",
        token_budget: int | str = 4096,
        prompt: str = "template",
        question: str | None = None,
        context: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        model: MultimodalLlama | None = None,
    ) -> None:
        super().__init__()
        if prompt not in PROMPTS:
            raise UserError(f"prompt {prompt!r} is not known{suggestion(prompt, PROMPTS)}; {', '.join(PROMPTS)} are.")
        if prompt == "raw" and (question or context):
            raise UserError("prompt=raw takes the task's text word for word; leave out question= and context=.")
        if device is None or (device.startswith("cuda") and not torch.cuda.is_available()):
            device = "cpu"  # a harness names CUDA wherever it runs
        self.model = model or MultimodalLlama.from_pretrained(llama, adapter, dtype=dtype, device=device)
        self.token_budget, self.raw = int(token_budget), prompt == "raw"
        self.question, self.context = question, context
        if self.model.vision is None:
            print("mm-adapter: this model takes no pictures; everything is asked without", file=sys.stderr)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Return the loss of every choice and whether it is greedy, as a ``Loss`` in ``text``; see ``choice_losses``.

        lmms-eval (to 0.7.3) makes a text of a bare pair, and then finds no losses in it.

        Raises:
            UserError: requests without a document (``acc_mutual_info``), a document whose choices make no question, or
                what ``choice_losses`` and ``MultimodalLlama.image_features`` refuse.
        """
        asked, visuals = [], {}
        for request in requests:
            if len(request.args) < 6:
                raise UserError(
                    f"task {request.task_name}: a choice without its question, as acc_mutual_info wants it, is not "
                    "scored; take the metric acc."
                )
            text, continuation, doc_to_visual, number, task, split = request.args[:6]
            name = f"{task}/{split}/{number}"
            visuals[name] = doc_to_visual, number, task, split
            if callable(continuation):
                continuation = continuation(self.task_dict[task][split][number])
            question, context = self._asked(text, number, task, split)
            asked.append(ChoiceRequest(name, request.idx, question, str(continuation), context))
        losses = choice_losses(
            self.model, asked, lambda name: self._features(*visuals[name]), self.raw, self.token_budget
        )
        return [GenerationResult(text=Loss(loss, greedy)) for loss, greedy in losses]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Write an answer to each request, up to a stop string, an end token or the task's number of tokens.

        Raises:
            UserError: a setting of generation that is not known, a request that does not fit, or a bad picture.
        """
        settings = [str(request.args[1]) for request in requests]
        prompts = [self._prompt(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: (settings[index], len(prompts[index]), index))
        groups = [list(group) for _, group in groupby(order, key=lambda index: settings[index])]
        parts = [group[start : start + TEXTS] for group in groups for start in range(0, len(group), TEXTS)]
        results = [""] * len(requests)
        for part in with_progress(parts, "texts", "batch"):
            asked = read_generation(requests[part[0]].args[1], "max_new_tokens", _NEW_TOKENS)
            images = stack_images([self._features(*requests[index].args[2:6]) for index in part])
            written = self.model.generate(
                [prompts[index] for index in part],
                images.features,
                images.present,
                max_new_tokens=asked.limit,
                sampling=asked.sampling,
                stop_strings=asked.until,
            )
            for index, text in zip(part, written, strict=True):
                results[index] = text
        return results

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse: nobody taught an adapter for questions to go on with a conversation about a picture.

        Raises:
            UserError: always.
        """
        raise _unsupported("generate_until_multi_round", requests)

    def generate_visual_cot(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse: pictures are looked at, and none is drawn.

        Raises:
            UserError: always.
        """
        raise _unsupported("generate_visual_cot", requests)

    def _prompt(self, request: Instance) -> list[int]:
        """Return the ids that a request is written on: those of a question without choices, or its text as it is."""
        text, settings, _, number, task, split = request.args[:6]
        # Settings are read before anything is written, so that a bad one stops all.
        limit = read_generation(settings, "max_new_tokens", _NEW_TOKENS).limit
        if not self.raw:
            question, context = self._asked(text, number, task, split)
            asked = Question(f"{task}/{split}/{number}", question, ("",), answer=-1, context=context)
            return list(free_prompt(self.model, asked))
        length = self.model.llama.config.context_length
        if limit >= length:
            raise UserError(f"max_new_tokens is {limit}; prompt and text must fit into {length} tokens.")
        return [*self.model.tokenizer.begin, *self.model.tokenizer.encode(text)][limit - length :]

    def _asked(self, text: str, number: int, task: str, split: str) -> tuple[str, str]:
        """Return question and context of a document, from the columns that are named for them."""
        if self.question is None and self.context is None:
            return text, ""
        document = self.task_dict[task][split][number]
        question = text if self.question is None else _column(document, self.question, f"{task}/{split}")
        return question, "" if self.context is None else _column(document, self.context, f"{task}/{split}")

    def _features(self, doc_to_visual: Callable[[Any], Any], number: int, task: str, split: str) -> Tensor | None:
        """Return the features ``(1, F)`` or ``(1, T, E)`` of a document's picture; None where it shows none."""
        if self.model.vision is None or doc_to_visual is None:
            return None
        pictures = list(_flat(doc_to_visual(self.task_dict[task][split][number])))
        if len(pictures) > 1:
            raise UserError(f"{task}/{split}/{number}: {len(pictures)} pictures; an adapter is shown one at most.")
        return self.model.image_features(pictures[0]) if pictures else None


def _flat(shown: Any) -> Iterator[Any]:
    """Yield what a task shows, which may be nothing, one thing, or lists of them."""
    if isinstance(shown, list | tuple):
        for part in shown:
            yield from _flat(part)
    elif shown is not None:
        yield shown


def _column(document: Mapping[str, Any], name: str, where: str) -> str:
    if name not in document:
        known = list(document)
        raise UserError(
            f"{where}: there is no column {name!r}{suggestion(name, known)}; there are: {', '.join(known)}."
        )
    value = document[name]
    return "" if value is None else str(value)


def _unsupported(kind: str, requests: Sequence[Instance]) -> UserError:
    tasks = ", ".join(sorted({request.task_name for request in requests}))
    return UserError(f"{kind} ({tasks}) is not supported; take tasks of multiple_choice or generate_until.")
