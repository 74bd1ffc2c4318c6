"""Conversations: every answer is what the whole conversation read anew gives, and only what is new is read."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, Turn
from mm_adapter.data.encoding import encode_conversation
from mm_adapter.inference.chat_session import ChatSession
from mm_adapter.inference.generation import GenerationConfig, Sampling, generate_tokens
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.vision import VisionConfig

SAID = ["Hello", "What is it?", "And then?"]


class FakeTower:
    """A tower whose features are the picture's mean colour."""

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.tensor(list(image.getdata()), dtype=torch.float32).mean(0)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels / 100


@pytest.fixture
def model(tiny_folder: Path) -> MultimodalLlama:
    """An adapter with open gates that sees pictures, on a model lively enough not to repeat itself."""
    base = load_llama(str(tiny_folder))
    for layer in base.model.layers:
        for weight in layer.parameters():
            weight.data = weight.data * 3  # the files are mapped: not in place
    adapter = Adapter(AdapterConfig(3, 4, image_size=3), base.model.config)
    assert adapter.gates is not None
    torch.nn.init.constant_(adapter.gates, 1.0)
    assert adapter.projection is not None
    torch.nn.init.normal_(adapter.projection.up.weight)  # a fresh one hardly tells pictures apart
    built = MultimodalLlama(base, adapter, VisionConfig("fake"))
    object.__setattr__(built, "_tower", FakeTower())
    return built


def count_read(model: MultimodalLlama) -> list[int]:
    """Return a list that fills with the number of tokens of every pass."""
    passes: list[int] = []
    model.llama.embedding.register_forward_hook(lambda module, inputs, output: passes.append(inputs[0].shape[1]))
    return passes


def answer_anew(session: ChatSession, limit: int) -> str:
    """Return the last answer as generation without a cache of turns writes it."""
    turns = []
    for request, ids in session.exchanges:
        turns += [request, Turn(ASSISTANT, session.model.tokenizer.decode(ids))]
    model = session.model
    conversation = Conversation("chat", tuple(turns))
    encoded = encode_conversation(conversation, model.conversation_template, model.tokenizer, 100_000)
    last = len(encoded.tokens) - list(reversed(encoded.targets)).index(False)
    written = generate_tokens(
        model.llama, [encoded.tokens[:last]], model.end_tokens, session._prefixes, limit, session.config.sampling
    )
    return model.tokenizer.decode(written[0])


def ascii_only(model: MultimodalLlama) -> None:
    """Let the model write printable letters alone, so that text and ids stand for each other."""
    allowed = set(model.tokenizer.encode("".join(map(chr, range(32, 127)))))
    model.llama.embedding.weight.data = model.llama.embedding.weight.data.clone()
    for token in set(range(258)) - allowed:
        model.llama.embedding.weight.data[token] = 0


def test_a_turn_reads_its_own_tokens_alone(model: MultimodalLlama) -> None:
    """The words are those of the whole conversation read anew; passes are as long as what is new."""
    ascii_only(model)
    session = ChatSession(model, GenerationConfig(12), Image.new("RGB", (2, 2), "red"))
    passes = count_read(model)
    whole = 0
    for number, text in enumerate(SAID):
        passes.clear()
        answer = "".join(session.reply(text))
        assert len(answer) == 12
        first, *rest = passes
        assert set(rest) == {1}
        before, whole = whole, len(session._encode(session.exchanges[:-1], Turn(USER, text)))
        # The last token of an answer was written, but not read yet.
        assert first == (whole if number == 0 else whole - before - 11)
        assert answer == answer_anew(session, 12)


def test_smollm2_converses_as_without_a_cache() -> None:
    """The default model in float32, with an adapter of the method's shape, over two turns."""
    base = load_llama(DEFAULT_LLAMA)
    adapter = Adapter(AdapterConfig(), base.model.config)
    assert adapter.gates is not None
    torch.nn.init.constant_(adapter.gates, 0.01)
    session = ChatSession(MultimodalLlama(base, adapter), GenerationConfig(10))
    for text in ("Name a fruit.", "Another one, please."):
        answer = "".join(session.reply(text))
        assert answer
        assert answer == answer_anew(session, 10)


def test_prefixes_and_picture_are_computed_once(model: MultimodalLlama, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turns: until another picture comes, which changes the answers."""
    calls = []
    original = MultimodalLlama.prefixes
    monkeypatch.setattr(MultimodalLlama, "prefixes", lambda self, *values: calls.append(1) or original(self, *values))
    session = ChatSession(model, GenerationConfig(8), Image.new("RGB", (2, 2), "red"))
    red = ["".join(session.reply(text)) for text in SAID]
    assert len(calls) == 1
    session.reset()
    session.show(Image.new("RGB", (2, 2), "blue"))
    assert ["".join(session.reply(text)) for text in SAID] != red
    assert len(calls) == 2
    session.reset()
    session.show(Image.new("RGB", (2, 2), "red"))
    assert ["".join(session.reply(text)) for text in SAID] == red


@pytest.mark.parametrize("moment", ["between tokens", "inside a pass", "before the first token"])
def test_an_interrupted_answer_leaves_a_sound_conversation(model: MultimodalLlama, moment: str) -> None:
    """What was said so far stays, half a pass does not, and the next answer is as if all was read anew."""
    ascii_only(model)
    session = ChatSession(model, GenerationConfig(12))
    "".join(session.reply(SAID[0]))
    pieces = session.reply(SAID[1])
    taken = [] if moment == "before the first token" else [next(pieces), next(pieces)]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "between tokens":
        pieces.close()
    else:
        hook = model.llama.layers[2].register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(pieces)
        hook.remove()
        assert len({layer.length for layer in session._cache.layers}) == 2
    assert len(session.exchanges) == (2 if taken else 1)
    assert model.tokenizer.decode(session.exchanges[-1][1]) == ("".join(taken) or answer_anew(session, 12))
    answer = "".join(session.reply(SAID[2]))
    assert answer == answer_anew(session, 12)


def test_a_full_context_drops_the_oldest(model: MultimodalLlama) -> None:
    """Half of the context is free again, the later exchanges stay, and answers are those of what stayed."""
    ascii_only(model)
    session = ChatSession(model, GenerationConfig(10), context=400)
    dropped = []
    for number in range(12):
        answer = "".join(session.reply(f"Question number {number}: what?"))
        dropped.append(session.dropped)
        assert answer == answer_anew(session, 10)
        assert session.exchanges[-1][0].text.startswith(f"Question number {number}")
        assert session._cache.length <= 400
        if session.dropped:
            assert len(session._encode(session.exchanges[:-1], session.exchanges[-1][0])) <= 200
    assert any(dropped)
    assert dropped.count(0) > 6
    assert len(session.exchanges) == 12 - sum(dropped)


def test_what_does_not_fit_changes_nothing(model: MultimodalLlama) -> None:
    """A request longer than the context is refused with both numbers; the conversation goes on."""
    session = ChatSession(model, GenerationConfig(5), context=300)
    "".join(session.reply("Hello"))
    before = list(session.exchanges)
    with pytest.raises(UserError, match=r"has \d+ tokens, the context is 300"):
        session.reply("long " * 100)
    assert session.exchanges == before
    with pytest.raises(UserError, match="2 to 1024"):
        ChatSession(model, context=4000)


def test_a_stop_string_ends_the_answer_for_the_next_turn_too(model: MultimodalLlama) -> None:
    """What came with or after the stop string is not part of the conversation."""
    ascii_only(model)
    full = "".join(ChatSession(model, GenerationConfig(12)).reply(SAID[0]))
    stop = full[5:7]
    session = ChatSession(model, GenerationConfig(12, stop_strings=(stop,)))
    answer = "".join(session.reply(SAID[0]))
    assert answer == full[: full.index(stop)]
    assert model.tokenizer.decode(session.exchanges[0][1]) == answer
    second = "".join(session.reply(SAID[1]))
    expected = answer_anew(session, 12)
    assert second == expected.split(stop)[0]


def test_a_seed_decides_the_conversation(model: MultimodalLlama) -> None:
    """Drawn answers come again with their seed, and differ from turn to turn."""

    def talk(seed: int) -> list[str]:
        session = ChatSession(model, GenerationConfig(8, Sampling(1.0), seed=seed))
        said = []
        for _ in range(2):
            session.reset()
            said.append("".join(session.reply("Hello")))
        return said

    assert talk(1) == talk(1)
    assert talk(1) != talk(2)
    assert len(set(talk(1))) == 2


def test_a_model_without_pictures(tiny_folder: Path, tmp_path: Path) -> None:
    """A picture for the base model is refused before anything is said."""
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    with pytest.raises(UserError, match="takes no pictures"):
        ChatSession(MultimodalLlama.from_pretrained(str(folder)), image=Image.new("RGB", (2, 2)))
