"""What is said of gates and of attention to prompts, against a plain computation."""

import pytest
import torch
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.question import Question
from mm_adapter.data.templates import Prompting
from mm_adapter.data.token_kinds import token_kinds
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.probing.gates import gate_strengths, gates_section
from mm_adapter.probing.prompt_attention import prompt_attention
from mm_adapter.scoring.encoded_sets import QuestionSet
from mm_adapter.training.prepare import prepare

QUESTIONS = [
    Question("a", "Which one is it?", ("red", "green", "blue"), 1, context="A hint."),
    Question("b", "Is it so, or is it not?", ("yes it is", "no"), 0),
]


@pytest.fixture
def model(tiny_folder) -> MultimodalLlama:
    """A model of four layers, the upper three adapted, with gates that matter and image features of width 7."""
    base = load_llama(str(tiny_folder), torch.float32)
    adapter = Adapter(AdapterConfig(layers=3, prompt_length=5, image_size=7, bottleneck=4), base.model.config, seed=1)
    with torch.no_grad():
        adapter.gates.copy_(torch.linspace(-1.5, 1.5, adapter.gates.numel()).view(adapter.gates.shape))
    return MultimodalLlama(base, adapter, prompting=Prompting("QCM-A", "text"))


def plain(model: MultimodalLlama, tokens: list[int], image: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return ratios ``(L, T)`` and weights ``(L, T, K)`` of one plain sequence, head by head, in the paper's terms."""
    llama, adapter, config = model.llama, model.adapter, model.llama.config
    count, size = len(tokens), config.head_dim
    hidden = llama.embedding(torch.tensor(tokens))[None]
    speeds = config.rope_theta ** (-torch.arange(0, size, 2) / size)
    turn = torch.exp(1j * torch.arange(count)[:, None] * speeds)

    def turned(rows: Tensor) -> Tensor:
        rotated = torch.complex(*rows.chunk(2, dim=-1)) * turn
        return torch.cat((rotated.real, rotated.imag), dim=-1)

    vector = 0 if image is None else adapter.projection(image[None])
    ratios, weights = [], []
    for number, layer in enumerate(llama.layers):
        place, attention = number - adapter.first_layer, layer.attention
        normed = layer.attention_norm(hidden)[0]
        outputs, texts, gateds, chosen = [], [], [], []
        for head in range(config.num_heads):
            group = head // (config.num_heads // config.num_kv_heads)
            own, shared = slice(head * size, (head + 1) * size), slice(group * size, (group + 1) * size)
            query = turned(normed @ attention.query.weight[own].T)
            key, value = turned(normed @ attention.key.weight[shared].T), normed @ attention.value.weight[shared].T
            scores = (query @ key.T / size**0.5).masked_fill(~torch.ones(count, count).bool().tril(), -torch.inf)
            output = text = scores.softmax(-1) @ value
            if place >= 0:
                prompts = adapter.prompts[place] + vector
                weight = (query @ (prompts @ attention.key.weight[shared].T).T / size**0.5).softmax(-1)
                gated = adapter.gates[place, head].tanh() * (weight @ (prompts @ attention.value.weight[shared].T))
                output = text + gated
                texts, gateds, chosen = [*texts, text], [*gateds, gated], [*chosen, weight]
            outputs.append(output)
        hidden = hidden + attention.output(torch.cat(outputs, dim=-1))[None]
        hidden = hidden + layer.mlp(layer.mlp_norm(hidden))
        if place >= 0:
            ratios.append(torch.cat(gateds, -1).norm(dim=-1) / torch.cat(texts, -1).norm(dim=-1))
            weights.append(torch.stack(chosen).mean(0))
    return torch.stack(ratios), torch.stack(weights)


@torch.no_grad()
def test_attention_agrees_with_a_plain_computation(model, tmp_path):
    """Packed, with and without a picture: shares by layer and kind as of separate sequences, one for each option."""
    features = {tmp_path / "a.png": torch.randn(7, generator=torch.Generator().manual_seed(3))}
    encoded = prepare(model, QUESTIONS, progress=False).examples.questions
    object.__setattr__(encoded[0], "question", Question(**{**vars(QUESTIONS[0]), "image": tmp_path / "a.png"}))
    found = prompt_attention(model, QuestionSet(encoded, features))
    by_kind: dict[str, list[Tensor]] = {}
    weights = []
    for question in encoded:
        kinds = token_kinds(question, model.template, model.tokenizer)
        image = features.get(question.image)
        start = len(question.prefix)
        for number, option in enumerate(question.options):
            ratio, weight = plain(model, [*question.prefix, *option], image)
            first = 0 if number == 0 else start  # the prefix is shared: it counts once
            for token in range(first, start + len(option)):
                kind = kinds[token] if token < start else "answer"
                by_kind.setdefault(kind, []).append(ratio[:, token])
            weights.append(weight[:, first:])
    assert set(found.kinds) == set(by_kind)
    expected = torch.stack([torch.stack(by_kind[kind]).mean(0) for kind in found.kinds], dim=1)
    torch.testing.assert_close(found.ratios, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.weights, torch.cat(weights, dim=1).mean(1), rtol=1e-4, atol=1e-6)
    assert found.weights.sum(-1) == pytest.approx([1, 1, 1])
    table = found.section().table
    assert [row[0] for row in table] == ["layer", "1", "2", "3"]


@torch.no_grad()
def test_closed_gates_add_nothing(model):
    """Before training the prompts have no part in any token of any layer."""
    examples = prepare(model, QUESTIONS, progress=False).examples
    model.adapter.gates.zero_()
    found = prompt_attention(model, examples)
    assert float(found.ratios.abs().max()) == 0


def test_gates_are_told_as_they_act(model):
    """tanh where the adapter has it, the gate itself where not; none in random-init attention."""
    strengths = gate_strengths(model.adapter)
    torch.testing.assert_close(strengths, model.adapter.gates.detach().tanh())
    section = gates_section(strengths, model.adapter.first_layer)
    sizes = strengths.abs()
    assert section.figures["mean"] == pytest.approx(float(sizes.mean()))
    assert section.figures["share_over_0.1"] == pytest.approx(float((sizes > 0.1).float().mean()))
    assert [row[0] for row in section.table] == ["layer", "1", "2", "3", "all"]
    config = model.llama.config
    raw = Adapter(AdapterConfig(layers=2, gate_activation="none"), config)
    with torch.no_grad():
        raw.gates.fill_(2.0)
    assert float(gate_strengths(raw).min()) == 2
    assert gate_strengths(Adapter(AdapterConfig(layers=2, attention="random-init"), config)) is None
