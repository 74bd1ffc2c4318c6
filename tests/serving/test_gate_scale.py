"""Gates that a request scales: at 0 the base model bit for bit; where an answer looks, against a plain computation."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mm_adapter.core.errors import UserError
from mm_adapter.inference.answer import continued_question
from mm_adapter.inference.prompt_look import look_at_prompts
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.engine import Engine
from mm_adapter.serving.jobs import Job, Picture
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.prompts import question_job
from mm_adapter.vision import ImageTower, VisionConfig
from mm_adapter.vision.places import shown_box, view_maps

CHOICES = ["one", "two", "twenty-one"]
WAYS = ("shared", "tiles", "query")


@pytest.fixture(scope="module")
def shown(demo_folder: Path) -> Picture:
    """A picture as a request brings it."""
    return Picture(sorted((demo_folder / "images" / "test").glob("*/image.png"))[0].read_bytes(), "a")


def computed(ways: dict[str, MultimodalLlama], *jobs: Job) -> list[Any]:
    """Return the results of jobs that are all there at once."""
    engine = Engine(ways)
    engine.start()
    futures = engine.submit(jobs)
    engine.close()
    return [future.result(0) for future in futures]


def job(
    ways: dict[str, MultimodalLlama], name: str, picture: Picture | None, choices: Any = CHOICES, **more: Any
) -> Job:
    """Return the job of a question."""
    return question_job(name, ways[name], Limits(), "Which number?", choices, "A hint.", picture, 12, **more)


@pytest.mark.parametrize("seen", [True, False], ids=["with a picture", "without"])
@pytest.mark.parametrize("name", ["text", *WAYS])
def test_gates_at_zero_are_the_base_bit_for_bit(
    ways: dict[str, MultimodalLlama], shown: Picture, name: str, seen: bool
) -> None:
    """Probabilities to the last bit, and the text; at 1 the adapter as it was trained, which says otherwise."""
    picture = shown if seen and name != "text" else None
    [base] = computed(ways, job(ways, "base", None))
    [closed] = computed(ways, job(ways, name, picture, gate_scale=0.0))
    [opened] = computed(ways, job(ways, name, picture))
    assert closed.answer.probabilities == base.answer.probabilities
    assert closed.answer.choice == base.answer.choice
    assert opened.answer.probabilities != base.answer.probabilities
    [text] = computed(ways, job(ways, "base", None, None))
    [same] = computed(ways, job(ways, name, picture, None, gate_scale=0.0))
    [other] = computed(ways, job(ways, name, picture, None))
    assert (same.text, same.ids) == (text.text, text.ids)
    assert other.ids != text.ids


def test_scales_of_a_batch_are_each_their_own(ways: dict[str, MultimodalLlama], shown: Picture) -> None:
    """All adapters at several scales in one pass and one batch of texts: each as ``with_gates`` says alone."""
    asked = [(name, scale) for name in ("text", *WAYS) for scale in (0.0, 0.3, 1.0)] + [("explains", 0.3)]
    picture = {name: shown if name in WAYS else None for name, _ in asked}
    questions = [job(ways, name, picture[name], gate_scale=scale) for name, scale in asked]
    texts = [job(ways, name, picture[name], None, gate_scale=scale) for name, scale in asked]
    found = computed(ways, *questions, *texts)
    for (name, scale), answer, text in zip(asked, found, found[len(asked) :], strict=False):
        content = None if picture[name] is None else picture[name].content
        model = ways[name].with_gates(scale)
        told = model.answer("Which number?", content, CHOICES, "A hint.")
        assert answer.answer.probabilities == pytest.approx(told.probabilities, abs=1e-5)
        assert answer.answer.explanation == told.explanation
        assert text.text.strip() == model.answer("Which number?", content, None, "A hint.", 12).text
    assert len({answer.answer.probabilities for answer in found[: len(asked)]}) == 2 + 2 * 4


def test_a_scale_multiplies_what_the_gate_lets_through(ways: dict[str, MultimodalLlama]) -> None:
    """tanh(g) times the scale, and not tanh of the scaled gate."""
    before = [part for part in ways["text"].prefixes() or () if part is not None]
    after = [part for part in ways["text"].with_gates(0.5).prefixes() or () if part is not None]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other.strength, 0.5 * one.strength)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("base", {"gate_scale": 0.5}, "base: gates cannot be scaled: there is no adapter"),
        ("joined", {"gate_scale": 0.5}, "random-init attention"),
        ("tuned", {"gate_scale": 0.0}, "changes weights of the model"),
        ("text", {"gate_scale": 1.5}, "between 0"),
        ("base", {"attention": True}, "no gated prompts"),
        ("joined", {"attention": True}, "no gated prompts"),
    ],
    ids=str,
)
def test_what_has_no_gates_is_refused_by_name(
    ways: dict[str, MultimodalLlama], name: str, more: dict[str, Any], said: str
) -> None:
    """With options and without."""
    for choices in (CHOICES, None):
        with pytest.raises(UserError, match=said):
            job(ways, name, None, choices, **more)


@torch.no_grad()
@pytest.mark.parametrize("name", ["text", *WAYS])
def test_where_an_answer_looks(ways: dict[str, MultimodalLlama], shown: Picture, name: str) -> None:
    """Gated softmax of the last position of the prompt, head by head; a text looks as an option of it would."""
    model, picture = ways[name], None if name == "text" else shown
    asked = job(ways, name, picture, attention=True, gate_scale=0.5)
    [answer, text] = computed(ways, asked, job(ways, name, picture, None, attention=True))
    queries: list[torch.Tensor] = []
    prefixes = model.with_gates(0.5).prefixes(None if picture is None else model.image_features(picture.content))
    below = model.adapter.first_layer

    class Spy:
        def __init__(self, prefix: Any) -> None:
            self.prefix = prefix

        def attend(self, *given: Any) -> torch.Tensor:
            queries.append(given[0][0, :, -1])  # (H, head_dim)
            return self.prefix.attend(*given)

    model.llama(torch.tensor([asked.question.prefix]), prefixes=[part and Spy(part) for part in prefixes])
    config = model.llama.config
    for layer, part in enumerate(prefixes[below:]):
        stacks = [(part, answer.attention.prompts)]
        if name == "tiles":
            stacks = [(part.prompts, answer.attention.prompts), (part.pieces, answer.attention.pieces)]
        for own, told in stacks:
            expected = 0
            for head in range(config.num_heads):
                keys = own.keys[0, head // (config.num_heads // config.num_kv_heads)]
                weights = (keys @ queries[layer][head] / math.sqrt(config.head_dim)).softmax(0)
                expected += 0.5 * abs(math.tanh(float(own.gate[head]))) * weights / config.num_heads
            torch.testing.assert_close(told[layer], expected, rtol=1e-4, atol=1e-6)
    assert answer.attention.prompts.shape == text.attention.prompts.shape == (2, 3)
    assert (answer.attention.ratios > 0).all()
    views = {one.view: one for one in answer.attention.picture}
    if name == "tiles":
        assert list(views) == ["2x2"], "one tile alone has no places"
        parts = answer.attention.pieces.sum(0).view(5, 2).sum(1)
        torch.testing.assert_close(views["2x2"].shares.flatten(), parts[1:] / parts.sum(), rtol=1e-4, atol=1e-6)
    elif name == "query":
        tokens = model.image_features(picture.content)
        looks = model.adapter.visual_query.looks(tokens)[0]
        shares = answer.attention.prompts.sum(0) @ looks
        torch.testing.assert_close(views["own"].shares.flatten(), shares / shares.sum(), rtol=1e-4, atol=1e-6)
        size = Image.open(io.BytesIO(picture.content)).size
        assert views["own"].box == shown_box(model.tower, size) != (0, 0, 1, 1)
    else:
        assert not views, "a picture that is one vector has no places"


def test_one_that_explains_first_looks_from_behind_its_explanation(ways: dict[str, MultimodalLlama]) -> None:
    """There the answer is predicted, and not where the explanation begins."""
    model = ways["explains"]
    asked = job(ways, "explains", None, attention=True)
    [found] = computed(ways, asked)
    whole = continued_question(model, asked.question, found.answer.explanation)
    assert len(whole.prefix) > len(asked.question.prefix)
    for question, same in ((whole, True), (asked.question, False)):
        told = look_at_prompts(model.llama, model.adapter.first_layer, model.prefixes(), question.prefix)
        assert torch.allclose(told.prompts, found.attention.prompts, atol=1e-6) == same


@torch.no_grad()
def test_looks_of_queries_are_those_that_the_vectors_come_of(ways: dict[str, MultimodalLlama]) -> None:
    """Of one block with one head: a query's vector is what its weights make of the tokens' values."""
    query = ways["query"].adapter.visual_query
    tokens = torch.randn(1, 4, query.input.in_features, generator=torch.Generator().manual_seed(1))
    block, joined = query.blocks[0], query._joined(tokens)
    weights = block.weights(joined)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 3 + 4))
    states, total = joined, 0
    for block in query.blocks:
        normed = block.attention_norm(states)
        q, k, _ = block.qkv(normed)[0].chunk(3, dim=-1)
        heads = [(a @ b.T / 2).softmax(-1) for a, b in zip(q.split(4, -1), k.split(4, -1), strict=True)]
        total = total + sum(heads) / len(heads) / len(query.blocks)
        states = block(states)
    torch.testing.assert_close(query.looks(tokens)[0], total[:3, 3:], rtol=1e-4, atol=1e-5)


def test_what_a_tower_crops(towers: dict[str, ImageTower]) -> None:
    """The box is the one that the tower's preprocessing keeps: a mark outside it is not seen, one inside is."""
    tower = towers["tokens"]
    for size in ((300, 300), (600, 300), (300, 900)):
        left, top, right, bottom = shown_box(tower, size)
        assert right - left <= 1
        assert (right - left) * size[0] == pytest.approx((bottom - top) * size[1], rel=0.03), "a square is shown"
        blank = Image.new("RGB", size)
        for x, y, seen in ((left + 0.03, top + 0.03, True), (left - 0.03, 0.5, False), (0.5, top - 0.03, False)):
            if min(x, y) < 0.005:
                continue
            marked = blank.copy()
            spot = int(x * size[0]), int(y * size[1])
            marked.paste((255, 255, 255), (spot[0] - 2, spot[1] - 2, spot[0] + 2, spot[1] + 2))
            assert (not torch.equal(tower.preprocess(marked), tower.preprocess(blank))) == seen


def test_views_are_laid_out_as_they_lie(towers: dict[str, ImageTower]) -> None:
    """The tiles of a view row by row; tokens of a tile within it, without a class token in front."""
    tower = towers["global"]
    parts = torch.arange(5 * 2).float()
    [view] = view_maps(tower, parts, (10, 10))
    assert view.shares.tolist() == [[2 + 3, 4 + 5], [6 + 7, 8 + 9]]
    assert view.box == (0, 0, 1, 1)
    eyes = towers["tokens"]
    wide = ImageTower.__new__(ImageTower)
    torch.nn.Module.__init__(wide)
    wide.config = VisionConfig(views=("2x2",), output="tokens")
    tokens = torch.arange(4 * 5).float()
    [view] = view_maps(wide, tokens, (10, 10))
    assert view.shares.tolist() == [[1, 2, 6, 7], [3, 4, 8, 9], [11, 12, 16, 17], [13, 14, 18, 19]]
    assert view_maps(wide, torch.arange(4 * 7).float(), (10, 10)) == []
    assert eyes.config.views == ("own",)
