"""lmms-eval asks an adapter with pictures, and finds what the adapter says when it is asked by us."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("lmms_eval", reason="lmms-eval is an extra of its own: pip install 'mm-adapter[lmms]'")

from lmms_eval.api.instance import Instance
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager
from lmms_task import TASK, write_task

from mm_adapter.core.errors import UserError
from mm_adapter.data.readers import read_dataset
from mm_adapter.data.templates import Prompting
from mm_adapter.harness.lmms_eval_model import MultimodalAdapter
from mm_adapter.model import MultimodalLlama

Make = Callable[..., MultimodalLlama]
SETTINGS = {"max_new_tokens": 8, "temperature": 0, "do_sample": False, "top_p": None, "num_beams": 1, "until": ["\n\n"]}
RED, BLUE = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
DOCUMENTS: list[dict[str, Any]] = [
    {"asked": "Which colour?", "hint": "It is shown.", "image": RED},
    {"asked": "Is it blue or red?", "hint": None, "image": BLUE},
    {"asked": "What is ice?", "hint": "Cold.", "image": None},
]


def show(document: dict[str, Any]) -> list[Any]:
    """Return a document's pictures, as tasks of lmms-eval do."""
    return [document["image"]]


def wrap(model: MultimodalLlama, **options: Any) -> MultimodalAdapter:
    """Return a model for lmms-eval that knows the documents."""
    wrapped = MultimodalAdapter(model=model, **options)
    wrapped.task_dict = {"looks": {"test": DOCUMENTS}}
    return wrapped


def to_write(number: int, settings: dict[str, Any], visuals: Any = show) -> Instance:
    """Return a request for a text."""
    arguments = (DOCUMENTS[number]["asked"], settings, visuals, number, "looks", "test")
    return Instance("generate_until", arguments, 0, {"task": "looks", "doc_id": number, "repeats": 1})


def to_choose(number: int, place: int, choice: str) -> Instance:
    """Return a request for a loss."""
    arguments = (DOCUMENTS[number]["asked"], f" {choice}", show, number, "looks", "test")
    return Instance("loglikelihood", arguments, place, {"task": "looks", "doc_id": number, "repeats": 1})


def test_it_is_found_by_name() -> None:
    """By the entry point of this project's installation."""
    assert get_model("mm-adapter") is MultimodalAdapter


@pytest.mark.parametrize("prompting", [Prompting(score_end=True), Prompting("QCM-A", "letter", ranking="sum")], ids=str)
def test_a_task_has_our_accuracy(
    make_model: Make, demo_folder: Path, tmp_path: Path, prompting: Prompting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On local parquet with pictures, through lmms-eval's evaluator: accuracy and every score."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    model = make_model(prompting)
    questions = read_dataset(str(demo_folder)).split("train")[:20]
    task = write_task(tmp_path / "task", questions)
    found = simple_evaluate(
        MultimodalAdapter(model=model, context="hint"),
        tasks=[TASK],
        task_manager=TaskManager(include_path=str(task)),
        bootstrap_iters=0,
    )
    told = [
        model.answer(question.question, question.image, question.options, question.context).choice
        for question in questions
    ]
    right = sum(choice == question.answer for choice, question in zip(told, questions, strict=True))
    samples = sorted(found["samples"][TASK], key=lambda sample: sample["doc_id"])
    losses = [[loss for loss, _ in sample["filtered_resps"]] for sample in samples]
    assert [own.index(min(own)) for own in losses] == told
    assert found["results"][TASK]["acc,none"] == pytest.approx(right / 20)
    assert any(question.context for question in questions)
    assert any(question.image for question in questions)


def test_texts_are_the_answers_without_choices(make_model: Make) -> None:
    """Of unequal settings, in the order of the requests, with pictures and columns for question and context."""
    model = make_model()
    lengths = (8, 5, 8)
    requests = [to_write(number, {**SETTINGS, "max_new_tokens": length}) for number, length in enumerate(lengths)]
    written = wrap(model, context="hint", question="asked").generate_until(requests)
    for document, length, text in zip(DOCUMENTS, lengths, written, strict=True):
        told = model.answer(document["asked"], document["image"], None, document["hint"] or "", length)
        assert text.strip() == told.text
    assert written != wrap(model).generate_until(requests)
    blind = wrap(model, context="hint").generate_until([to_write(0, SETTINGS, lambda document: [])])
    assert blind != written[:1]


def test_texts_word_for_word(make_model: Make) -> None:
    """With prompt=raw the task's text is continued as it stands, up to a stop string."""
    model = make_model()
    raw = wrap(model, prompt="raw")
    [written] = raw.generate_until([to_write(0, SETTINGS)])
    assert [written] == model.generate(["Which colour?"], model.image_features(RED), max_new_tokens=8)
    [stopped] = raw.generate_until([to_write(0, {**SETTINGS, "until": written[2]})])
    assert stopped == written[: written.index(written[2])]


def test_a_model_without_pictures(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The base model is asked without them, and says so."""
    model = MultimodalLlama.from_pretrained(str(tiny_folder))
    base = wrap(model)
    assert "takes no pictures" in capsys.readouterr().err
    found = base.loglikelihood([to_choose(0, 0, "red"), to_choose(0, 1, "blue")])
    told = model.answer("Which colour?", None, ["red", "blue"])
    losses = torch.tensor([result.text.loss for result in found])
    assert (-losses).softmax(0).tolist() == pytest.approx(told.probabilities, abs=1e-5)


def test_losses_are_not_kept_as_texts(make_model: Make) -> None:
    """A loss passes through what lmms-eval does with results, and its cache finds nothing to keep."""
    from lmms_eval.api.instance import unwrap_generation_output
    from lmms_eval.caching.response_cache import ResponseCache

    [first, _] = wrap(make_model()).loglikelihood([to_choose(0, 0, "red"), to_choose(0, 1, "blue")])
    loss, greedy = unwrap_generation_output(first)[0]
    assert isinstance(loss, float)
    assert greedy is False
    assert not ResponseCache._is_valid_response(first, "loglikelihood")


def test_what_is_not_supported_is_refused(make_model: Make) -> None:
    """Settings, kinds of request, columns and pictures that mean something we do not do are named."""
    model = make_model()
    wrapped = wrap(model)
    request = to_write(0, SETTINGS)
    with pytest.raises(UserError, match="'num_beams' is not known"):
        wrapped.generate_until([to_write(0, {**SETTINGS, "num_beams": 4})])
    with pytest.raises(UserError, match=r"generate_until_multi_round \(looks\) is not supported"):
        wrapped.generate_until_multi_round([request])
    with pytest.raises(UserError, match=r"generate_visual_cot \(looks\) is not supported"):
        wrapped.generate_visual_cot([request])
    with pytest.raises(UserError, match="looks/test/0: 2 pictures"):
        wrapped.generate_until([to_write(0, SETTINGS, lambda document: [[RED], BLUE])])
    with pytest.raises(UserError, match=r"looks/test: there is no column 'hints'.*'hint'"):
        wrap(model, context="hints").generate_until([request])
    unconditional = Instance("loglikelihood", ("", "red"), 0, {"task": "looks", "doc_id": 0, "repeats": 1})
    with pytest.raises(UserError, match="acc_mutual_info"):
        wrapped.loglikelihood([unconditional])
    with pytest.raises(UserError, match="prompt 'own' is not known; template, raw are"):
        wrap(model, prompt="own")
    with pytest.raises(UserError, match="leave out question= and context="):
        wrap(model, prompt="raw", context="hint")
