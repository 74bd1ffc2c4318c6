"""Batches: every question once, inside the budget, options blind to each other, no padding but in attention."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.llama.attention import attend
from mm_adapter.llama.packing import attention_groups
from mm_adapter.scoring.batching import collate, token_batches


def encoded(prefix: int, options: list[int], answer: int = 0, tail: int = 1, pid: str = "1") -> EncodedQuestion:
    """A question of the given lengths whose tokens are all different: 100s prefix, 1000s options, 9000s tail."""
    asked = Question(pid=pid, question="?", options=tuple("abcdefgh"[: len(options)]), answer=answer)
    ids = tuple(tuple(range(1000 * (k + 1), 1000 * (k + 1) + length)) for k, length in enumerate(options))
    return EncodedQuestion(asked, tuple(range(100, 100 + prefix)), ids, tuple(range(9000, 9000 + tail)))


SHAPES = st.builds(
    encoded,
    prefix=st.integers(1, 6),
    options=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    answer=st.integers(0, 1),
    tail=st.integers(1, 4),
)
# The right answer as the only option: a plain sequence.
PLAIN = st.builds(encoded, prefix=st.integers(1, 6), options=st.lists(st.integers(1, 4), min_size=1, max_size=1))


@settings(deadline=None, max_examples=60)
@given(questions=st.lists(SHAPES, min_size=1, max_size=4), with_tail=st.booleans())
def test_what_is_seen_predicted_and_counted(questions: list[EncodedQuestion], with_tail: bool) -> None:
    """Every option reads prefix and itself only, the tail also the right option; each token is predicted once."""
    batch = collate(questions, with_tail)
    # As on a GPU; by itself, a sequence sees the same, see ``test_a_sequence_by_itself_sees_what_it_sees_in_a_group``.
    packing = batch.packing.grouped()
    places = {
        int(sequence): (group, row)
        for group, members in enumerate(packing.members)
        for row, sequence in enumerate(members)
    }
    assert sorted(places) == list(range(len(questions)))
    starts = [0]
    for number_of_question, question in enumerate(questions):
        first = starts[-1]
        packed = list(question.prefix)
        spans = []
        for option in question.options:
            spans.append(range(len(packed), len(packed) + len(option)))
            packed += option
        tail = range(len(packed), len(packed) + (len(question.tail) - 1 if with_tail else 0))
        packed += question.tail[: len(tail)]
        starts.append(first + len(packed))
        assert batch.tokens[first : starts[-1]].tolist() == packed
        assert set(batch.packing.segment_ids[first : starts[-1]].tolist()) == {number_of_question}
        group, row = places[number_of_question]
        visible = packing.masks[group][:, 0]
        prefix = range(len(question.prefix))
        right = spans[question.question.answer]
        for number, (span, seen) in enumerate(
            [(prefix, [])] + [(s, [prefix]) for s in spans] + [(tail, [prefix, right])]
        ):
            start = sum(map(len, seen))
            positions = batch.positions[first + span.start : first + span.stop]
            assert positions.tolist() == list(range(start, start + len(span))), number
            for query in span:
                keys = {key for part in seen for key in part} | set(range(span.start, query + 1))
                assert set(visible[row, query].nonzero().flatten().tolist()) == keys
        assert visible[row].any(dim=-1).all()
        assert not visible[row, : len(packed), len(packed) :].any()
    assert torch.equal(batch.sources, batch.sources.unique())
    assert len(batch.tokens) == starts[-1]
    option_starts = [0, *batch.question_of.bincount().cumsum(0).tolist()]
    for number, target in enumerate(batch.targets.tolist()):
        source = int(batch.sources[batch.source_of[number]])
        owner = int(batch.packing.segment_ids[source])
        question = questions[owner]
        option = int(batch.option_of[number])
        if option >= 0:
            own = option - option_starts[owner]
            ids = question.options[own]
            before = int(batch.tokens[source])
            assert target in ids
            expected = question.prefix[-1] if target == ids[0] else target - 1
            assert before == expected
            assert bool(batch.language[number]) == (own == question.question.answer)
        else:
            ids = question.tail
            right_option = question.options[question.question.answer]
            assert int(batch.tokens[source]) == (right_option[-1] if target == ids[0] else target - 1)
            assert batch.language[number]
    tails = sum(len(question.tail) for question in questions) if with_tail else 0
    assert len(batch.targets) == int(batch.lengths.sum()) + tails
    assert batch.option_counts == tuple(len(question.options) for question in questions)


@given(questions=st.lists(SHAPES | PLAIN, min_size=1, max_size=4), with_tail=st.booleans())
def test_a_sequence_by_itself_sees_what_it_sees_in_a_group(questions: list[EncodedQuestion], with_tail: bool) -> None:
    """Masks of the CPU, where no mask stands for causal attention, and masks of groups; attention by both is one."""
    packing = collate(questions, with_tail).packing
    grouped = packing.grouped()
    for group, members in enumerate(grouped.members):
        for row, sequence in enumerate(members.tolist()):
            size, own = packing.lengths[sequence], packing.masks[sequence]
            expected = torch.ones(1, size, size, dtype=torch.bool).tril() if own is None else own[0]
            assert torch.equal(grouped.masks[group][row, :, :size, :size], expected)
    assert any(mask is None for mask in packing.masks) == any(len(question.options) == 1 for question in questions)
    heads = torch.randn(3, 1, 4, len(packing.segment_ids), 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(packing.join(packing.split(heads[0])), heads[0])
    assert (attend(*heads, packing, False) - attend(*heads, grouped, False)).abs().max() < 1e-6


def test_unknown_answers_have_no_tail() -> None:
    """A question without a known answer is scored, and contributes nothing to the language loss."""
    batch = collate([encoded(3, [2, 2], answer=-1, tail=3), encoded(3, [1, 1], answer=1, tail=2)])
    assert batch.answers.tolist() == [-1, 1]
    segment_ids = batch.packing.segment_ids[batch.sources][batch.source_of]
    assert set(segment_ids[batch.language].tolist()) == {1}


def test_moving_keeps_everything() -> None:
    """``to`` moves tensors and leaves the rest."""
    batch = collate([encoded(3, [2, 1])])
    moved = batch.to("meta")
    packing = moved.packing
    for tensor in (moved.tokens, packing.segment_ids, packing.slots, *packing.members, *packing.masks):
        assert tensor.device.type == "meta"
    assert moved.pids == batch.pids


@settings(deadline=None, max_examples=100)
@given(lengths=st.lists(st.integers(1, 120), max_size=60), budget=st.integers(1, 600))
def test_every_question_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    """No batch has more tokens than the budget, but a longer question on its own; no two neighbours could be joined."""
    batches = token_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    sizes = [sum(lengths[index] for index in batch) for batch in batches]
    assert all(size <= budget or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))
    firsts = [lengths[batch[0]] for batch in batches]
    assert all(size + following > budget for size, following in zip(sizes, firsts[1:], strict=False))


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8), overhead=st.sampled_from([0, 100, 2000]))
def test_attention_groups_cost_the_least(lengths: list[int], overhead: int) -> None:
    """Every question is in one group, and no other cut of the sorted lengths is cheaper (tried exhaustively)."""
    ordered = sorted(lengths)

    def cost(cuts: int) -> int:
        total, start = 0, 0
        for end in range(1, len(ordered) + 1):
            if end == len(ordered) or cuts >> (end - 1) & 1:
                total, start = total + ordered[end - 1] ** 2 * (end - start) + overhead, end
        return total

    groups = attention_groups(lengths, overhead)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    found = sum(max(lengths[index] for index in group) ** 2 * len(group) + overhead for group in groups)
    assert found == min(cost(cuts) for cuts in range(1 << (len(ordered) - 1)))
