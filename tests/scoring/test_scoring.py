"""Scores: one packed pass says about every option what a pass over it alone says, in whatever batch."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.llama import Llama
from mm_adapter.llama.packing import Packing
from mm_adapter.scoring.batching import OptionBatch, collate
from mm_adapter.scoring.likelihoods import (
    lower_states,
    padded_by_question,
    ranking_loss,
    score_options,
    target_log_probabilities,
)

FIXTURES = settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the model does not change


def ids(length: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def encoded(prefix: int, options: list[int], answer: int = 0, tail: int = 1, seed: int = 0) -> EncodedQuestion:
    asked = Question(pid=str(seed), question="?", options=("o",) * len(options), answer=answer)
    parts = tuple(ids(length, 50 * seed + 3 + number) for number, length in enumerate(options))
    return EncodedQuestion(asked, ids(prefix, 50 * seed + 1), parts, ids(tail, 50 * seed + 2))


SHAPES = st.builds(
    encoded,
    prefix=st.integers(1, 9),
    options=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    answer=st.integers(0, 1),
    tail=st.integers(1, 4),
    seed=st.integers(0, 99),
)


def adapter_for(llama: Llama, attention: str = "zero-init") -> Adapter:
    adapter = Adapter(AdapterConfig(layers=2, prompt_length=4, attention=attention, image_size=6), llama.config)
    if adapter.gates is not None:
        torch.nn.init.constant_(adapter.gates, 0.7)
    return adapter.requires_grad_(False)


def log_likelihoods(llama: Llama, prefix: tuple[int, ...], continuation: tuple[int, ...], prefixes=None) -> Tensor:
    """Log-probability of each token of the continuation, by a plain pass over the whole sequence."""
    tokens = torch.tensor([prefix + continuation])
    table = llama(tokens, prefixes=prefixes)[0].log_softmax(-1)
    return torch.stack([table[len(prefix) + k - 1, token] for k, token in enumerate(continuation)])


@pytest.mark.parametrize("attention", ["base", "zero-init", "random-init"])
def test_packed_scores_equal_each_option_alone(tiny_llama: Llama, attention: str) -> None:
    """The shared prefix changes no option's likelihood, with pictures in a mixed batch as well."""
    questions = [
        encoded(7, [3, 1, 4], 1, 3, seed=1),
        encoded(2, [2, 5], 0, 1, seed=2),
        encoded(9, [1, 1], 1, 2, seed=3),
    ]
    features, has_image = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0, 1]).bool()
    adapter = None if attention == "base" else adapter_for(tiny_llama, attention)
    prefixes = None if adapter is None else adapter.prefixes(tiny_llama, features, has_image)
    scores = score_options(tiny_llama, collate(questions), prefixes)
    expected, language = [], []
    for row, question in enumerate(questions):
        own = None
        if adapter is not None:
            own = adapter.prefixes(tiny_llama, features[row : row + 1] if has_image[row] else None)
        expected += [log_likelihoods(tiny_llama, question.prefix, option, own).sum() for option in question.options]
        target = question.options[question.question.answer] + question.tail
        language.append(-log_likelihoods(tiny_llama, question.prefix, target, own).mean())
    assert (scores.log_likelihoods - torch.stack(expected)).abs().max() < 1e-4
    assert (scores.language_loss - torch.stack(language)).abs().max() < 1e-4
    assert scores.lengths.tolist() == [3, 1, 4, 2, 5, 1, 1]
    assert torch.equal(scores.ranking_scores("sum"), scores.log_likelihoods)
    assert torch.allclose(scores.ranking_scores("mean") * scores.lengths, scores.log_likelihoods)


@FIXTURES
@given(questions=st.lists(SHAPES, min_size=1, max_size=5), with_tail=st.booleans())
def test_any_batch_scores_as_alone(tiny_llama: Llama, questions: list[EncodedQuestion], with_tail: bool) -> None:
    """Neither neighbours nor padding nor the tail change a question's scores, whatever the lengths."""
    prefixes = adapter_for(tiny_llama).prefixes(tiny_llama)
    together = score_options(tiny_llama, collate(questions, with_tail), prefixes)
    alone = [score_options(tiny_llama, collate([question]), prefixes) for question in questions]
    found = torch.cat([scores.log_likelihoods for scores in alone])
    assert (together.log_likelihoods - found).abs().max() < 1e-4
    if with_tail:
        assert (together.language_loss - torch.cat([scores.language_loss for scores in alone])).abs().max() < 1e-4


def regroup(batch: OptionBatch, extra: int) -> OptionBatch:
    """The same questions in one group for attention, with ``extra`` more columns of padding."""
    sizes = batch.packing.segment_ids.bincount().tolist()
    width = max(sizes) + extra
    mask = torch.eye(width, dtype=torch.bool).repeat(len(sizes), 1, 1, 1)
    for sequence, (size, own) in enumerate(zip(sizes, batch.packing.masks, strict=True)):
        mask[sequence, :, :size, :size] = torch.ones(size, size).tril().bool() if own is None else own[0]
    return replace(batch, packing=Packing.build(sizes, [list(range(len(sizes)))], [mask]))


def test_padding_is_never_in_the_loss(tiny_llama: Llama) -> None:
    """However questions are grouped and padded for attention, scores, losses and gradients are the same."""
    batch = collate([encoded(7, [3, 1, 4], 1, 3, seed=1), encoded(2, [2, 2], 0, 1, seed=2)])
    results = []
    grouped = replace(batch, packing=batch.packing.grouped())
    for padded in (batch, grouped, regroup(batch, 0), regroup(batch, 9)):
        adapter = adapter_for(tiny_llama).requires_grad_(True)
        scores = score_options(tiny_llama, padded, adapter.prefixes(tiny_llama))
        loss = ranking_loss(scores.log_likelihoods, padded).mean() + scores.language_loss.mean()
        loss.backward()
        results.append((loss.detach(), adapter.prompts.grad))
    for loss, gradient in results[1:]:
        assert (loss - results[0][0]).abs() < 1e-5
        assert (gradient - results[0][1]).abs().max() < 1e-5


def test_likelihoods_and_their_gradients_are_those_of_a_softmax() -> None:
    """Without a table of log-probabilities: values and gradients of the plain formulation, rows and targets shared."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(70, 11, generator=generator)
    source_of, targets = (
        torch.randint(0, 70, (90,), generator=generator),
        torch.randint(0, 11, (90,), generator=generator),
    )
    weights = torch.randn(90, generator=generator)
    results = []
    for plain in (True, False):
        leaf = logits.clone().requires_grad_(True)
        found = (
            leaf.log_softmax(-1)[source_of, targets] if plain else target_log_probabilities(leaf, source_of, targets)
        )
        (found * weights).sum().backward()
        results.append((found.detach(), leaf.grad))
    assert (results[0][0] - results[1][0]).abs().max() < 1e-5
    assert (results[0][1] - results[1][1]).abs().max() < 1e-5


def test_options_do_not_see_one_another(tiny_llama: Llama) -> None:
    """Other words in one option leave the scores of the others, and the tail's, bit for bit."""
    first = encoded(6, [3, 3, 2], 1, 3, seed=1)
    second = replace(first, options=(ids(3, 777), *first.options[1:]))
    one, two = (score_options(tiny_llama, collate([question])) for question in (first, second))
    assert torch.equal(one.log_likelihoods[1:], two.log_likelihoods[1:])
    assert torch.equal(one.language_loss, two.language_loss)
    assert not torch.equal(one.log_likelihoods[0], two.log_likelihoods[0])


def test_kept_lower_states_give_the_same_scores(tiny_llama: Llama) -> None:
    """What was computed below the adapter once can be kept for every epoch, without a graph."""
    batch = collate([encoded(7, [3, 1, 4], 1, 3, seed=1), encoded(2, [2, 2], 0, 1, seed=2)])
    adapter = adapter_for(tiny_llama).requires_grad_(True)
    states = lower_states(tiny_llama, batch, adapter.first_layer)
    assert not states.requires_grad
    prefixes = adapter.prefixes(tiny_llama)
    kept = score_options(tiny_llama, batch, prefixes, states, adapter.first_layer)
    fresh = score_options(tiny_llama, batch, prefixes)
    assert torch.equal(kept.log_likelihoods, fresh.log_likelihoods)
    kept.language_loss.sum().backward()
    assert adapter.gates is not None
    assert adapter.gates.grad is not None


def test_options_without_a_tail(tiny_llama: Llama) -> None:
    """Where the options hold their end, batches with and without tails are the same."""
    questions = [encoded(4, [2, 3], 1, tail=0, seed=1), encoded(3, [1, 2], 0, tail=0, seed=2)]
    with_tails, without = (score_options(tiny_llama, collate(questions, with_tail)) for with_tail in (True, False))
    assert torch.equal(with_tails.log_likelihoods, without.log_likelihoods)
    assert torch.equal(with_tails.language_loss, without.language_loss)
    assert (without.language_loss > 0).all()


def test_unknown_answers_have_no_language_loss(tiny_llama: Llama) -> None:
    """A question without a known answer is scored; its language loss is zero, not NaN."""
    scores = score_options(tiny_llama, collate([encoded(4, [2, 2], answer=-1), encoded(4, [2, 2], answer=1, seed=2)]))
    assert scores.log_likelihoods.isfinite().all()
    assert scores.language_loss[0] == 0
    assert scores.language_loss[1] > 0


def test_ranking_loss_by_hand(tiny_llama: Llama) -> None:
    """Cross entropy over a question's own options, whatever the others have; smoothing spreads over those alone."""
    batch = collate([encoded(3, [1, 1, 1], 1, seed=1), encoded(3, [1, 1], 0, seed=2)])
    scores = torch.tensor([1.0, 2.0, -1.0, 0.5, 0.25])
    rows = padded_by_question(scores, batch)
    assert rows.tolist() == [[1.0, 2.0, -1.0], [0.5, 0.25, float("-inf")]]
    first, second = scores[:3].log_softmax(0), scores[3:].log_softmax(0)
    assert torch.allclose(ranking_loss(scores, batch), torch.stack((-first[1], -second[0])))
    smoothed = torch.stack((-0.9 * first[1] - 0.1 * first.mean(), -0.9 * second[0] - 0.1 * second.mean()))
    assert torch.allclose(ranking_loss(scores, batch, smoothing=0.1), smoothed)


def test_smoothing_keeps_gradients_finite(tiny_llama: Llama) -> None:
    """The filler of shorter questions never becomes NaN in a gradient."""
    batch = collate([encoded(3, [1, 1, 1], 1, seed=1), encoded(3, [1, 1], 0, seed=2)])
    scores = torch.zeros(5, requires_grad=True)
    ranking_loss(scores, batch, smoothing=0.2).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().sum() > 0
