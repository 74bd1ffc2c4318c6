"""Generated text: what a plain pass without cache would write, for one prompt or a batch of any lengths."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.core.errors import UserError
from mm_adapter.inference.generation import Sampling, generate_tokens, stream_tokens
from mm_adapter.llama import Llama


@pytest.fixture
def lively_llama(tiny_llama: Llama) -> Llama:
    """The tiny model with larger weights, so that it does not repeat its last token."""
    for layer in tiny_llama.layers:
        for weight in layer.parameters():
            weight.mul_(3)
    return tiny_llama


def written_plainly(llama: Llama, prompt: list[int], steps: int, prefixes=None) -> list[int]:
    """Greedy continuation by a full pass per token."""
    tokens = list(prompt)
    for _ in range(steps):
        tokens.append(int(llama(torch.tensor([tokens]), prefixes=prefixes)[0, -1].argmax()))
    return tokens[len(prompt) :]


PROMPTS = [[5, 6, 7], [200], [9, 8, 7, 6, 5, 4, 3, 2, 1], [100, 101]]


@pytest.mark.parametrize("attention", ["base", "zero-init", "random-init"])
def test_a_batch_writes_what_plain_passes_write(lively_llama: Llama, attention: str) -> None:
    """Cache, left padding and neighbours change nothing, with an adapter and pictures as well."""
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    adapter = None
    if attention != "base":
        adapter = Adapter(AdapterConfig(3, 4, attention, 6), lively_llama.config).requires_grad_(False)
        if adapter.gates is not None:
            torch.nn.init.constant_(adapter.gates, 1.0)
    prefixes = None if adapter is None else adapter.prefixes(lively_llama, features)
    together = generate_tokens(lively_llama, PROMPTS, -1, prefixes, max_new_tokens=10)
    for row, prompt in enumerate(PROMPTS):
        own = None if adapter is None else adapter.prefixes(lively_llama, features[row : row + 1])
        assert together[row] == written_plainly(lively_llama, prompt, 10, own)
        assert generate_tokens(lively_llama, [prompt], -1, own, max_new_tokens=10) == [together[row]]
    assert len({tuple(row) for row in together}) > 1


@pytest.mark.parametrize("attention", ["zero-init", "random-init"])
def test_one_picture_serves_all_prompts(lively_llama: Llama, attention: str) -> None:
    """A single picture's prefixes are every prompt's, whatever the lengths."""
    adapter = Adapter(AdapterConfig(3, 4, attention, 6), lively_llama.config).requires_grad_(False)
    if adapter.gates is not None:
        torch.nn.init.constant_(adapter.gates, 1.0)
    prefixes = adapter.prefixes(lively_llama, torch.randn(1, 6, generator=torch.Generator().manual_seed(0)))
    for prompts in (PROMPTS, [prompt[:1] for prompt in PROMPTS]):
        together = generate_tokens(lively_llama, prompts, -1, prefixes, max_new_tokens=10)
        assert together == [written_plainly(lively_llama, prompt, 10, prefixes) for prompt in prompts]
        assert together != generate_tokens(lively_llama, prompts, -1, max_new_tokens=10)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=st.lists(st.lists(st.integers(0, 299), min_size=1, max_size=12), min_size=1, max_size=4))
def test_any_prompts_alone_or_together(tiny_llama: Llama, prompts: list[list[int]]) -> None:
    """Whatever the lengths, a batch writes what each prompt has alone."""
    together = generate_tokens(tiny_llama, prompts, -1, max_new_tokens=4)
    assert together == [generate_tokens(tiny_llama, [prompt], -1, max_new_tokens=4)[0] for prompt in prompts]


def test_the_end_ends_one_row_alone(lively_llama: Llama) -> None:
    """A row stops at its end token, which is not part of it; the others go on."""
    full = generate_tokens(lively_llama, PROMPTS, -1, max_new_tokens=10)
    end = full[0][2]
    expected = [row[: row.index(end)] if end in row else row for row in full]
    assert generate_tokens(lively_llama, PROMPTS, end, max_new_tokens=10) == expected
    assert generate_tokens(lively_llama, PROMPTS[:1], end, max_new_tokens=10) == expected[:1]


def test_sampling_is_seeded(lively_llama: Llama) -> None:
    """A seed decides a sample; a temperature near zero is the most likely token."""

    def sample(seed: int, temperature: float) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return generate_tokens(lively_llama, PROMPTS, -1, None, 8, Sampling(temperature), generator)

    assert sample(1, 1.0) == sample(1, 1.0)
    assert sample(1, 1.0) != sample(2, 1.0)
    assert sample(1, 1e-5) == generate_tokens(lively_llama, PROMPTS, -1, max_new_tokens=8)


def test_the_context_is_never_left(lively_llama: Llama) -> None:
    """Generation stops where the model's context ends; a prompt that fills it is refused, and so is an empty one."""
    assert len(generate_tokens(lively_llama, [[1] * 253], -1, max_new_tokens=10)[0]) == 3
    with pytest.raises(UserError, match="256 tokens, the model's context is 256"):
        generate_tokens(lively_llama, [[1] * 256], -1)
    with pytest.raises(UserError, match="empty prompt"):
        generate_tokens(lively_llama, [[1], []], -1)


def test_a_long_neighbour_takes_no_room(lively_llama: Llama) -> None:
    """Each row of a batch ends where its own context does."""
    together = generate_tokens(lively_llama, [[1] * 253, [5, 6, 7]], -1, max_new_tokens=10)
    assert together == [generate_tokens(lively_llama, [row], -1, None, 10)[0] for row in ([1] * 253, [5, 6, 7])]
    assert [len(row) for row in together] == [3, 10]


def test_no_prompts_no_text(lively_llama: Llama) -> None:
    """An empty batch is an empty answer."""
    assert generate_tokens(lively_llama, [], -1) == []


@pytest.mark.parametrize("attention", ["base", "zero-init"])
def test_streamed_tokens_go_on_from_a_cache(lively_llama: Llama, attention: str) -> None:
    """What was read and written before is not computed again, and changes nothing."""
    prefixes = None
    if attention != "base":
        adapter = Adapter(AdapterConfig(3, 4, attention), lively_llama.config).requires_grad_(False)
        torch.nn.init.constant_(adapter.gates, 1.0)
        prefixes = adapter.prefixes(lively_llama)
    cache = lively_llama.new_cache(1, 60)
    prompt = [5, 6, 7]
    first = [step[0] for step in stream_tokens(lively_llama, [prompt], -1, prefixes, 5, cache=cache)]
    assert cache.length == len(prompt) + len(first) - 1
    longer = [*prompt, *first, 9, 8, 7]
    second = [step[0] for step in stream_tokens(lively_llama, [longer], -1, prefixes, 5, cache=cache)]
    assert second == generate_tokens(lively_llama, [longer], -1, prefixes, 5)[0]


def test_ended_rows_are_marked_and_the_stream_stops(lively_llama: Llama) -> None:
    """Rows that have ended give None while others go on; tokens streamed are the tokens generated."""
    end = generate_tokens(lively_llama, PROMPTS, -1, max_new_tokens=10)[0][2]
    steps = list(stream_tokens(lively_llama, PROMPTS, end, max_new_tokens=10))
    columns = [[token for token in column if token is not None] for column in zip(*steps, strict=True)]
    assert columns == generate_tokens(lively_llama, PROMPTS, end, max_new_tokens=10)
    assert [step[0] for step in steps][2:] == [None] * (len(steps) - 2)
    alone = list(stream_tokens(lively_llama, PROMPTS[:1], end, max_new_tokens=10))
    assert len(alone) == 2
