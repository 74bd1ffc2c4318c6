"""Multiple-choice requests of a harness, one for each choice, as questions that are scored in packed passes.

An adapter is asked in its own template, with the task's text as the question; or the text is taken word for word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.progress import with_progress
from mm_adapter.data.encoding import EXPLANATION_LENGTH, EncodedQuestion, encode_question
from mm_adapter.data.question import Question
from mm_adapter.harness.packed_scores import ContinuationScore, score_continuations
from mm_adapter.inference.answer import explain_first, stack_images
from mm_adapter.scoring.batching import collate, token_batches
from mm_adapter.scoring.likelihoods import AdaptedModel


@dataclass(frozen=True)
class ChoiceRequest:
    """One choice of a document.

    Attributes:
        document: its name, which all its choices share; for messages too.
        place: of the choice among them, from 0.
        text: what the task asks.
        continuation: the choice, as the task would have it follow the text.
        context: text that goes with the question; empty where there is none.
    """

    document: str
    place: int
    text: str
    continuation: str
    context: str = ""


def choice_losses(
    model: AdaptedModel,
    requests: Sequence[ChoiceRequest],
    features: Callable[[str], Tensor | None],
    raw: bool = False,
    token_budget: int = 4096,
    quiet: bool = False,
) -> list[tuple[float, bool]]:
    """Return the loss of every choice, and whether it is what the model would write; the best choice has the lowest.

    Losses are minus what the model ranks options by (mean or sum of log-likelihoods, with the end of sequence where it
    was taught to count that), so that the lowest is the option that ``mm-adapter evaluate`` chooses. A model that
    explains first does so, and its choices are scored behind that, unless ``raw``.

    Args:
        requests: of any documents, in any order; the choices of one share a pass.
        features: name of a document -> features ``(1, F)`` or ``(1, T, E)`` of its picture; None without one.
        raw: continue the text word for word, in place of the model's template.
        token_budget: tokens of a pass.
        quiet: show no progress.

    Raises:
        UserError: a document's choices are no question, or it does not fit.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index, request in enumerate(requests):
        # A task may put its choices into the text; word for word each of them is a text of its own.
        groups.setdefault((request.document, request.text if raw else ""), []).append(index)
    members = list(groups.values())
    encode = _encode_raw if raw else _encode_question
    encoded = [encode(model, _distinct(requests, indices)) for indices in members]
    found = _score(model, encoded, features, raw, token_budget, quiet)
    losses: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
    for indices, scores in zip(members, found, strict=True):
        places = {place: order for order, place in enumerate(sorted({requests[index].place for index in indices}))}
        for index in indices:
            score = scores[places[requests[index].place]]
            losses[index] = score.loss(model.ranking), score.greedy
    return losses


def _distinct(requests: Sequence[ChoiceRequest], indices: Sequence[int]) -> list[ChoiceRequest]:
    """Return the choices of a document in their order, each once: a harness repeats requests where it is told to."""
    by_place = {requests[index].place: requests[index] for index in indices}
    return [by_place[place] for place in sorted(by_place)]


def _encode_question(model: AdaptedModel, choices: Sequence[ChoiceRequest]) -> EncodedQuestion:
    first = choices[0]
    advice = "Ask it word for word, with prompt=raw."
    if len({choice.text for choice in choices}) > 1:
        raise UserError(f"{first.document}: its choices stand in the text, which makes no question. {advice}")
    if [choice.place for choice in choices] != list(range(len(choices))):
        raise UserError(f"{first.document}: some of its choices are missing; score all of them at a time.")
    if len(choices) < 2:
        raise UserError(f"{first.document}: a single continuation is no question with choices. {advice}")
    options = tuple(choice.continuation.strip() for choice in choices)
    if not all(options):
        raise UserError(f"{first.document}: a choice is empty; every choice needs a text.")
    question = Question(first.document, first.text, options, answer=-1, context=first.context)
    return encode_question(question, model.template, model.tokenizer, model.max_length)


def _encode_raw(model: AdaptedModel, choices: Sequence[ChoiceRequest]) -> EncodedQuestion:
    """Encode a text and what follows it; it loses its beginning where the model cannot read it all."""
    first, tokenizer = choices[0], model.tokenizer
    # A space at the end of a text belongs to the token that follows.
    text = first.text.rstrip()
    space = first.text[len(text) :]
    end = (tokenizer.end,) if model.template.score_end else ()
    options = tuple((*tokenizer.encode_continuation(space + choice.continuation), *end) for choice in choices)
    context = model.llama.config.context_length
    longest = max(map(len, options))
    if min(map(len, options)) == len(end) or longest > context:
        raise UserError(f"{first.document}: a continuation has no tokens, or more than the model's {context}.")
    prefix = [*tokenizer.begin, *(tokenizer.encode(text) if text else ())] or [tokenizer.end]
    # The last token is predicted and not read.
    question = Question(first.document, first.text, ("",) * len(options), answer=-1)
    return EncodedQuestion(question, tuple(prefix[-(context + 1 - longest) :]), options, ())


def _score(
    model: AdaptedModel,
    encoded: Sequence[EncodedQuestion],
    features: Callable[[str], Tensor | None],
    raw: bool,
    token_budget: int,
    quiet: bool,
) -> list[list[ContinuationScore]]:
    explains = model.template.explains_first and not raw
    # How long an explanation is shows only when it is written.
    more = EXPLANATION_LENGTH if explains else 0
    scores: list[list[ContinuationScore]] = [[] for _ in encoded]
    batches = token_batches([question.length + more for question in encoded], token_budget)
    for indices in batches if quiet else with_progress(batches, "choices", "batch"):
        members = [encoded[index] for index in indices]
        # Pictures are looked at when their turn comes: a benchmark's features need not fit into memory.
        images = stack_images([features(question.pid) for question in members])
        if explains:
            members = [question for _, question in explain_first(model, members, images)]
        found = iter(score_continuations(model, collate(members, with_tail=False), images))
        for index, question in zip(indices, members, strict=True):
            scores[index] = [next(found) for _ in question.options]
    return scores
