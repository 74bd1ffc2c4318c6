"""The attention that is computed is the paper's equation, as one screen of plain PyTorch says it."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.adapter.attention import GatedPrefix, zero_init_attention
from mm_adapter.llama.packing import Packing


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(
    batch=st.integers(1, 3),
    key_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    tokens=st.integers(1, 7),
    prompts=st.integers(1, 5),
    picture=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gated_prefix_is_the_equation(
    batch: int, key_heads: int, group: int, tokens: int, prompts: int, picture: bool, seed: int
) -> None:
    """Grouped heads, any sizes, with and without a picture: the same numbers and gradients of the gate."""
    heads, size = key_heads * group, 4
    q, k, v = (draw(batch, n, tokens, size, seed=seed + i) for i, n in enumerate((heads, key_heads, key_heads)))
    prompt_keys, prompt_values = (draw(1, key_heads, prompts, size, seed=seed + i) for i in (3, 4))
    image = draw(batch, key_heads, 1, size, seed=seed + 5) if picture else None
    gate = draw(heads, seed=seed + 6).requires_grad_()
    fast = GatedPrefix(prompt_keys, prompt_values, gate, image).attend(q, k, v, None, causal=tokens > 1)
    # A picture's vector is added to every prompt: to keys it adds the same to every score, so values alone carry it.
    shifted = (prompt_values if image is None else prompt_values + image).expand(batch, -1, -1, -1)
    whole = [part.repeat_interleave(group, dim=1) for part in (k, v, prompt_keys.expand(batch, -1, -1, -1), shifted)]
    plain = zero_init_attention(q, *whole, gate)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    weights = draw(*plain.shape, seed=seed + 7)
    (of_fast,), (of_plain,) = (torch.autograd.grad((part * weights).sum(), gate) for part in (fast, plain))
    torch.testing.assert_close(of_fast, of_plain, rtol=1e-4, atol=1e-4)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_packed_sequences_are_the_equation(lengths: list[int], seed: int) -> None:
    """Sequences stored one after another, each with a picture of its own, attend as each does alone."""
    heads, size, prompts, longest = 2, 4, 3, max(lengths)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril().expand(len(lengths), 1, -1, -1)
    packing = Packing.build(lengths, [list(range(len(lengths)))], [causal])
    q, k, v = (draw(1, heads, sum(lengths), size, seed=seed + i) for i in range(3))
    prompt_keys, prompt_values = (draw(1, heads, prompts, size, seed=seed + i) for i in (3, 4))
    image, gate = draw(len(lengths), heads, 1, size, seed=seed + 5), draw(heads, seed=seed + 6)
    packed = GatedPrefix(prompt_keys, prompt_values, gate, image).attend(q, k, v, packing, causal=False)
    alone = [
        zero_init_attention(*parts, prompt_keys, prompt_values + image[index], gate)
        for index, parts in enumerate(zip(q.split(lengths, 2), k.split(lengths, 2), v.split(lengths, 2), strict=True))
    ]
    torch.testing.assert_close(packed, torch.cat(alone, dim=2), rtol=1e-5, atol=1e-5)
