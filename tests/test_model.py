"""``MultimodalLlama``: base, adapter and tower joined, saved, and refused where they do not belong together."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mm_adapter import MultimodalLlama
from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import encode_question
from mm_adapter.data.question import Question
from mm_adapter.data.templates import Prompting
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.scoring.batching import collate
from mm_adapter.vision import VisionConfig

TOWER = VisionConfig("timm:test_vit")
FEATURES = 12


class FakeTower:
    """Stands for an image tower: the mean colour of a picture, repeated."""

    fingerprint = "t" * 64
    weights_fingerprint = "w" * 64
    is_corrected = False

    def __init__(self, config: VisionConfig, device: Any = "cpu") -> None:
        self.config = config

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32)

    def encode(self, views: torch.Tensor) -> torch.Tensor:
        return views.repeat(1, FEATURES // 3) * torch.linspace(-1, 1, FEATURES)


@pytest.fixture
def fake_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real tower is loaded."""
    monkeypatch.setattr("mm_adapter.model.ImageTower", FakeTower)


@pytest.fixture
def make_model(tiny_folder: Path) -> Callable[..., MultimodalLlama]:
    """A model with a trained-looking adapter on the tiny folder."""

    def make(pictures: bool = True, prompting: Prompting | None = None) -> MultimodalLlama:
        base = load_llama(str(tiny_folder))
        adapter = Adapter(AdapterConfig(2, 3, image_size=FEATURES if pictures else 0, bottleneck=4), base.model.config)
        assert adapter.gates is not None
        torch.nn.init.constant_(adapter.gates, 0.9)
        vision = TOWER if pictures else None
        return MultimodalLlama(base, adapter, vision, prompting, FakeTower.fingerprint if pictures else None)

    return make


TOKENS = torch.arange(20).view(2, 10)


def test_the_base_alone(tiny_folder: Path) -> None:
    """Without an adapter the model is the base, answers included; five lines are enough."""
    model = MultimodalLlama.from_pretrained(llama=str(tiny_folder))
    assert torch.equal(model(TOKENS), load_llama(str(tiny_folder)).model(TOKENS))
    assert model.prefixes() is None
    assert model.first_adapted_layer == 4
    answer = model.answer("Which has feathers?", choices=["cat", "hen", "dog"])
    assert answer.text == ["cat", "hen", "dog"][answer.choice]
    assert sum(answer.probabilities) == pytest.approx(1)
    assert max(answer.probabilities) == answer.probabilities[answer.choice]
    written = model.answer("Which has feathers?", context="Look.", max_new_tokens=5)
    assert (written.choice, written.probabilities) == (-1, ())


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(
    tmp_path: Path, make_model: Callable[..., MultimodalLlama], pictures: bool, dtype: torch.dtype
) -> None:
    """Saved and loaded, the model finds its base by name and computes the same; the adapter stays in float32."""
    prompting = Prompting("QCM-A", "letter", "solution", "sum", 300)
    model = make_model(pictures, prompting)
    model.save_pretrained(tmp_path / "run")
    loaded = MultimodalLlama.from_pretrained(adapter=tmp_path / "run", dtype=dtype)
    assert loaded.prompting == prompting
    assert loaded.vision == (TOWER if pictures else None)
    assert loaded.adapter is not None
    assert loaded.adapter.prompts.dtype == torch.float32
    assert loaded.first_adapted_layer == 2
    features = torch.randn(2, FEATURES) if pictures else None
    expected, found = model(TOKENS, features), loaded(TOKENS, features)
    assert found.shape == (2, 10, 258)
    if dtype == torch.float32:
        assert torch.equal(found, expected)
    else:
        assert (found.float() - expected).abs().max() / expected.abs().max() < 0.05
    loaded.save_pretrained(tmp_path / "again")
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert all((tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_another_base_is_refused_by_name(
    tmp_path: Path, tiny_folder: Path, make_model: Callable[..., MultimodalLlama]
) -> None:
    """A moved base is the same base; one with other weights is not."""
    from safetensors.torch import load_file, save_file

    make_model().save_pretrained(tmp_path / "run")
    moved = Path(shutil.copytree(tiny_folder, tmp_path / "moved"))
    MultimodalLlama.from_pretrained(str(moved), tmp_path / "run")
    tensors = load_file(moved / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, moved / "model.safetensors")
    with pytest.raises(UserError, match=f"trained on {tiny_folder} .*, not on {moved}"):
        MultimodalLlama.from_pretrained(str(moved), tmp_path / "run")


def test_another_tower_is_refused_by_name(tmp_path: Path, make_model: Callable[..., MultimodalLlama]) -> None:
    """Naming another tower than the one of training is an error before anything is computed."""
    make_model().save_pretrained(tmp_path / "run")
    assert MultimodalLlama.from_pretrained(adapter=tmp_path / "run", vision="timm:test_vit").vision == TOWER
    with pytest.raises(UserError, match=r"trained with image tower timm:test_vit, not ViT-L-14/openai"):
        MultimodalLlama.from_pretrained(adapter=tmp_path / "run", vision="ViT-L-14/openai")
    make_model(pictures=False).save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match="trained with image tower None, not timm:test_vit"):
        MultimodalLlama.from_pretrained(adapter=tmp_path / "text", vision="timm:test_vit")


@pytest.mark.usefixtures("fake_tower")
def test_other_weights_of_the_tower_are_refused(tmp_path: Path, make_model: Callable[..., MultimodalLlama]) -> None:
    """The tower's name may be right and its weights another's: the fingerprint tells."""
    model = make_model()
    model.vision_fingerprint = "u" * 64
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"timm:test_vit: its features \(t{12}\) are not those .*\(u{12}\)"):
        MultimodalLlama.from_pretrained(adapter=tmp_path).image_features(Image.new("RGB", (4, 4)))


@pytest.mark.usefixtures("fake_tower")
def test_an_adapter_that_knows_only_the_weights_of_its_tower(
    tmp_path: Path,
    make_model: Callable[..., MultimodalLlama],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of version 0.1 is taken with a note; not where its tower computes otherwise since."""
    model = make_model()
    model.vision_fingerprint = FakeTower.weights_fingerprint
    model.save_pretrained(tmp_path)
    MultimodalLlama.from_pretrained(adapter=tmp_path).image_features(Image.new("RGB", (4, 4)))
    assert "only the weights could be compared" in capsys.readouterr().err
    monkeypatch.setattr(FakeTower, "is_corrected", True)
    with pytest.raises(UserError, match="its weights need QuickGELU"):
        MultimodalLlama.from_pretrained(adapter=tmp_path).image_features(Image.new("RGB", (4, 4)))


@pytest.mark.usefixtures("fake_tower")
def test_pictures_from_files_and_memory(tmp_path: Path, make_model: Callable[..., MultimodalLlama]) -> None:
    """A picture may be a path, its name, or an image; it changes the answer's probabilities."""
    model = make_model()
    red = Image.new("RGB", (9, 5), "red")
    red.save(tmp_path / "red.png")
    choices = ["red", "blue"]
    answers = [
        model.answer("Which?", image, choices) for image in (red, tmp_path / "red.png", str(tmp_path / "red.png"))
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] != model.answer("Which?", Image.new("RGB", (9, 5), "blue"), choices)
    assert answers[0] != model.answer("Which?", choices=choices)
    assert model.image_features(red.convert("L")).shape == (1, FEATURES)
    with pytest.raises(UserError, match=r"absent\.png"):
        model.answer("Which?", tmp_path / "absent.png", choices)


@pytest.mark.usefixtures("fake_tower")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_many_questions_are_answered_as_each_alone(make_model: Callable[..., MultimodalLlama], data: Any) -> None:
    """Packed together: pictures or none, two to five choices or free, contexts of any length."""
    model = make_model()
    drawn = data.draw(
        st.lists(
            st.tuples(
                st.text("abc ?", min_size=1, max_size=30),
                st.sampled_from([None, "red", "blue"]),
                st.none() | st.lists(st.text("xyz", min_size=1, max_size=8), min_size=2, max_size=5, unique=True),
                st.text("abc ", max_size=40),
            ),
            min_size=1,
            max_size=6,
        )
    )
    questions, colours, choices, contexts = (list(part) for part in zip(*drawn, strict=True))
    images = [None if colour is None else Image.new("RGB", (4, 4), colour) for colour in colours]
    together = model.answer_batch(questions, images, choices, contexts, max_new_tokens=4)
    for found, question, image, options, context in zip(together, questions, images, choices, contexts, strict=True):
        alone = model.answer(question, image, options, context, max_new_tokens=4)
        assert (found.text, found.choice) == (alone.text, alone.choice)
        assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_the_wrong_kind_of_thing(make_model: Callable[..., MultimodalLlama]) -> None:
    """A text where a list belongs is not taken letter by letter; lists must be of one length."""
    model = make_model()
    with pytest.raises(UserError, match=r"choices must be a list of texts.*'red'"):
        model.answer("Which?", choices="red")
    with pytest.raises(UserError, match="choices must be a list of texts"):
        model.answer("Which?", choices=[1, 2])
    with pytest.raises(UserError, match=r"write \['hello'\]"):
        model.generate("hello")
    with pytest.raises(UserError, match="a question is given as list"):
        model.answer(["Which?"])
    with pytest.raises(UserError, match="questions must be a list"):
        model.answer_batch("Which?")
    with pytest.raises(UserError, match="images must be a list with one for each of the 2 questions"):
        model.answer_batch(["a?", "b?"], images=[None])
    with pytest.raises(UserError, match="a picture is given as int"):
        model.answer("Which?", 3)
    with pytest.raises(UserError, match="this is a URL"):
        model.answer("Which?", "https://example.org/a.png")


@pytest.mark.usefixtures("fake_tower")
def test_the_tower_is_loaded_once_and_saved_nowhere(make_model: Callable[..., MultimodalLlama]) -> None:
    """The tower comes with the first picture and is no part of the model's parameters."""
    model = make_model()
    names = set(model.state_dict())
    model.image_features(Image.new("RGB", (4, 4)))
    assert model.tower is model.tower
    assert set(model.state_dict()) == names


@pytest.mark.usefixtures("fake_tower")
def test_an_unnamed_tower_is_fingerprinted_when_saved(
    tmp_path: Path, make_model: Callable[..., MultimodalLlama]
) -> None:
    """An adapter trained in Python carries its tower's fingerprint without further ado."""
    model = make_model()
    model.vision_fingerprint = None
    model.save_pretrained(tmp_path)
    vision = json.loads((tmp_path / "adapter_config.json").read_text())["vision"]
    assert vision == {"tower": "timm:test_vit", "depths": 4, "views": ["own"], "fingerprint": "t" * 64}


@pytest.mark.usefixtures("fake_tower")
def test_the_base_model_refuses_a_picture(tiny_folder: Path) -> None:
    """Without an adapter a picture would be ignored, which nobody should mistake for an answer about it."""
    model = MultimodalLlama.from_pretrained(str(tiny_folder), vision="timm:test_vit")
    picture = Image.new("RGB", (4, 4), "red")
    with pytest.raises(UserError, match="base model takes no pictures"):
        model.answer("Why?", picture, ["a", "b"])


def test_pictures_that_nobody_wants(make_model: Callable[..., MultimodalLlama]) -> None:
    """A picture for a text-only adapter is refused, as file and as features."""
    model = make_model(pictures=False)
    with pytest.raises(UserError, match="takes no pictures"):
        model.answer("Why?", Image.new("RGB", (4, 4)), ["a", "b"])
    with pytest.raises(UserError, match="text-only"):
        model(TOKENS, torch.zeros(2, FEATURES))


def test_a_mixed_batch(make_model: Callable[..., MultimodalLlama]) -> None:
    """Samples without picture are what they are without features at all."""
    model, features = make_model(), torch.randn(2, FEATURES)
    mixed = model(TOKENS, features, torch.tensor([True, False]))
    assert (mixed[1] - model(TOKENS)[1]).abs().max() < 1e-5
    assert (mixed[0] - model(TOKENS, features)[0]).abs().max() < 1e-5


@pytest.mark.parametrize("choices", [[], ["one"]])
def test_too_few_choices(make_model: Callable[..., MultimodalLlama], choices: list[str]) -> None:
    """A choice of one is none."""
    with pytest.raises(UserError, match="give at least two"):
        make_model().answer("Why?", choices=choices)


@pytest.mark.parametrize("ranking", ["mean", "sum"])
def test_answers_are_the_scores(make_model: Callable[..., MultimodalLlama], ranking: str) -> None:
    """Probabilities are the softmax of the options' scores, ranked as the adapter was taught."""
    model = make_model(prompting=Prompting(ranking=ranking))
    asked = Question("1", "Which has feathers?", ("a cat", "hen"), -1, "Look.")
    batch = collate([encode_question(asked, model.template, model.tokenizer, 512)], with_tail=False)
    scores = model.score_choices(batch).ranking_scores(ranking)
    answer = model.answer(asked.question, choices=asked.options, context="Look.")
    assert torch.allclose(torch.tensor(answer.probabilities), scores.softmax(-1))


def test_a_question_longer_than_the_context(make_model: Callable[..., MultimodalLlama]) -> None:
    """A long context is shortened, a long question is refused; free answers have the model's whole context."""
    model = make_model(prompting=Prompting(max_length=64))
    assert model.max_length == 64
    model.answer("Why?", choices=["a", "b"], context="c" * 5000)
    with pytest.raises(UserError, match="the limit is 64"):
        model.answer("q" * 100, choices=["a", "b"])
    with pytest.raises(UserError, match="the limit is 64"):
        model.answer("q" * 100)


def test_text_and_ids_are_continued_alike(make_model: Callable[..., MultimodalLlama]) -> None:
    """Prompts may be text or ids, in one batch."""
    model = make_model()
    ids = model.tokenizer.encode("Hello")
    written = model.generate(["Hello", ids], max_new_tokens=6)
    assert written[0] == written[1]
    assert model.generate(["Hello"], max_new_tokens=6) == written[:1]


def test_no_tokenizer_matters_when_text_comes(tmp_path: Path, tiny_folder: Path) -> None:
    """A folder without tokenizer computes logits; text is then missed by name."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "bare"))
    (folder / "tokenizer.json").unlink()
    model = MultimodalLlama.from_pretrained(str(folder))
    assert model(TOKENS).shape == (2, 10, 258)
    for call in (lambda: model.answer("Why?", choices=["a", "b"]), lambda: model.generate(["Hello"])):
        with pytest.raises(UserError, match=f"{folder}: has no tokenizer"):
            call()


def test_nothing_to_save(tmp_path: Path, tiny_folder: Path) -> None:
    """A base model is not saved."""
    with pytest.raises(UserError, match="no adapter to save"):
        MultimodalLlama.from_pretrained(str(tiny_folder)).save_pretrained(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", [{"unknown": 1}, {"ranking": 5}, {"max_length": "long"}, {"template": "XYZ"}])
def test_a_damaged_way_of_asking(
    tmp_path: Path, make_model: Callable[..., MultimodalLlama], task: dict[str, Any]
) -> None:
    """An adapter that does not say rightly how it was taught is not asked at all."""
    make_model().save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": task}))
    with pytest.raises(UserError):
        MultimodalLlama.from_pretrained(adapter=tmp_path)


def test_folders_that_are_no_adapter(tmp_path: Path) -> None:
    """An empty or absent folder is named before the base is loaded."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"adapter_config\.json"):
            MultimodalLlama.from_pretrained(adapter=folder)


def test_questions_in_the_models_chat_format(tiny_folder: Path) -> None:
    """A family's markers stand around the question; a model without a format of its own says so."""
    from mm_adapter.data.templates import Prompting

    model = MultimodalLlama.from_pretrained(str(tiny_folder))
    model.prompting = Prompting(chat="llama-2")
    frame = model.template.frame
    assert frame is not None
    assert model.tokenizer.decode(frame.opening).startswith("[INST]")
    assert model.tokenizer.decode(frame.closing).endswith("[/INST]")
    assert model.answer("Why?", choices=["a", "b"]).text in ("a", "b")
    for chat, message in (("own", "no chat format"), ("chatml2", "did you mean 'chatml'")):
        model.prompting = Prompting(chat=chat)
        with pytest.raises(UserError, match=message):
            model.answer("Why?", choices=["a", "b"])
