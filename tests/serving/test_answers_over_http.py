"""Questions with options over HTTP, many at a time and of all adapters: each answer is the one of a lone question."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from test_protocol import NAMES, Models, data_uri

from mm_adapter.core.errors import UserError

CHOICES = ["one", "two", "twenty-one", "a very long option indeed"]


def asked_of(number: int, pictures: list[Path]) -> tuple[dict[str, Any], Path | None]:
    """Return a request of a kind of its own, and its picture."""
    model = NAMES[number % 4]
    picture = pictures[number % len(pictures)] if model == "sees" and number % 8 < 4 else None
    asked: dict[str, Any] = {"model": model, "question": f"Which comes after {number}? " + "Well. " * (number % 5)}
    asked |= {"choices": CHOICES[: 2 + number % 3], "context": "A hint. " * (number % 7)}
    if picture is not None:
        asked["image"] = data_uri(picture)
    return asked, picture


@pytest.fixture(scope="module")
def pictures(demo_folder: Path) -> list[Path]:
    """Pictures of the generated set."""
    return sorted((demo_folder / "images" / "test").glob("*/image.png"))[:5]


def told(models: Models, asked: dict[str, Any], picture: Path | None) -> Any:
    """Return the answer in process."""
    return models[asked["model"]].answer(asked["question"], picture, asked["choices"], asked["context"])


def test_many_at_a_time_are_answered_as_each_alone(server: Any, models: Models, pictures: list[Path]) -> None:
    """Sixteen clients at a time, adapters and base mixed, with texts being written among them; passes are shared."""
    passes, scored = server.engine.passes, server.engine.scored
    requests = [asked_of(number, pictures) for number in range(96)]
    prompts = [f"Write about {number}" for number in range(24)]

    def write(number: int) -> str:
        asked = {"model": NAMES[number % 4], "prompt": prompts[number], "max_tokens": 5 + number}
        return str(server.http.post("/v1/completions", json=asked).json()["choices"][0]["text"])

    with ThreadPoolExecutor(24) as pool:
        texts = pool.map(write, range(24))
        found = list(pool.map(lambda asked: server.http.post("/v1/answer", json=asked[0]), requests))
        written = list(texts)
    for (asked, picture), response in zip(requests, found, strict=True):
        assert response.status_code == 200, response.text
        reply, expected = response.json(), told(models, asked, picture)
        assert (reply["choice"], reply["index"]) == (expected.text, expected.choice)
        assert reply["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert reply["timing"]["waited"] >= 0
        assert reply["timing"]["computed"] > 0
    for number, text in enumerate(written):
        model = models[NAMES[number % 4]]
        assert text == model.generate([prompts[number]], max_new_tokens=5 + number)[0]
    assert server.engine.scored - scored == 96
    assert server.engine.passes - passes < 80


def test_a_batch_is_answered_in_its_order(server: Any, models: Models, pictures: list[Path]) -> None:
    """Questions of several adapters in one request; without a name the first adapter is asked, or the batch's."""
    requests = [asked_of(number, pictures) for number in range(12)]
    reply = server.http.post("/v1/answer/batch", json={"questions": [asked for asked, _ in requests]}).json()
    for (asked, picture), answer in zip(requests, reply["answers"], strict=True):
        expected = told(models, asked, picture)
        assert (answer["model"], answer["choice"]) == (asked["model"], expected.text)
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    plain = {"question": "Which?", "choices": ["one", "two"]}
    assert server.http.post("/v1/answer", json=plain).json()["model"] == "sees"
    named = server.http.post("/v1/answer/batch", json={"model": "letters", "questions": [plain]}).json()
    assert named["answers"][0]["model"] == "letters"


def test_a_question_without_choices_is_answered_freely(server: Any, models: Models, pictures: list[Path]) -> None:
    """The text is the one of ``answer``; there is no index and no probability."""
    asked = {"model": "sees", "question": "Which number?", "image": data_uri(pictures[0]), "max_new_tokens": 9}
    reply = server.http.post("/v1/answer", json=asked).json()
    assert reply["choice"] == models["sees"].answer("Which number?", pictures[0], max_new_tokens=9).text
    assert reply["index"] is None
    assert reply["probabilities"] == []


def test_a_picture_is_looked_at_once(server: Any, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked about again, it does not pass the tower again, and the answer depends on it."""
    looked = []
    model = server.engine.models["sees"]
    look = model.image_features
    monkeypatch.setattr(model, "image_features", lambda picture: looked.append(picture) or look(picture), raising=False)
    found = set()
    for picture in (*pictures, *pictures):
        asked = {"question": "Which number?", "choices": CHOICES, "image": data_uri(picture)}
        found.add(tuple(server.http.post("/v1/answer", json=asked).json()["probabilities"]))
    assert len(looked) <= len(pictures)
    assert len(found) == len({picture.read_bytes() for picture in pictures})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choices": ["one"]}, "give at least two"),
        ({"choices": ["one", " "]}, "a choice is empty"),
        ({"choices": "one"}, "choices"),
        ({"choices": [1, 2]}, "choices.0"),
        ({"question": ""}, "question"),
        ({"question": "\ud800"}, "unicode string"),
        ({"question": "word " * 400}, "needs"),
        ({"image": "http://127.0.0.1:1/cat.png"}, "nothing is fetched"),
        ({"image": "file:///etc/passwd"}, "nothing is fetched"),
        ({"image": "data:image/png,abc"}, "not in base64"),
        ({"image": "data:image/png;base64,@@@"}, "no base64"),
        ({"image": "data:image/png;base64,aGVsbG8="}, "not an image"),
        ({"model": "letters", "image": True}, "takes no pictures: its adapter"),
        ({"model": "base", "image": True}, "base takes no pictures"),
        ({"model": "base", "max_new_tokens": 0}, "max_new_tokens"),
    ],
    ids=str,
)
def test_bad_questions_are_refused(server: Any, pictures: list[Path], changes: Any, said: str) -> None:
    """By one error that says what is wrong; in a batch also which question it is."""
    if changes.get("image") is True:
        changes = changes | {"image": data_uri(pictures[0])}
    asked = {"question": "Which?", "choices": ["one", "two"]} | changes
    for path, body in (("/v1/answer", asked), ("/v1/answer/batch", {"questions": [{"question": "Why?"}, asked]})):
        headers = {"Content-Type": "application/json"}
        response = server.http.post(path, content=json.dumps(body).encode(), headers=headers)
        assert response.status_code == 400, response.text
        assert said in response.json()["error"]["message"]
    assert "question 1" in response.json()["error"]["message"] or "questions.1" in response.json()["error"]["message"]


def test_a_picture_of_too_many_pixels_is_not_decoded(serve: Any, pictures: list[Path], monkeypatch: Any) -> None:
    """Its header is enough to refuse it."""
    monkeypatch.setattr("mm_adapter.serving.pictures.open_image", lambda _: pytest.fail("it was decoded"))
    with serve(pixels=100) as server:
        asked = {"question": "Which?", "choices": ["one", "two"], "image": data_uri(pictures[0])}
        response = server.http.post("/v1/answer", json=asked)
    assert response.status_code == 400
    assert "more than the 100 that this server takes" in response.json()["error"]["message"]


def test_one_that_fails_spares_those_beside_it(server: Any, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error within a shared pass is told to whom it belongs; the others are answered."""
    mixed = server.engine._store.prefixes

    def prefixes(job: Any) -> Any:
        if job.model == "letters":
            raise UserError("this adapter is broken today.")
        return mixed(job)

    monkeypatch.setattr(server.engine._store, "prefixes", prefixes)
    with ThreadPoolExecutor(12) as pool:
        asked = [asked_of(number, [Path("unused")]) for number in range(4, 8)] * 3
        asked = [(dict(body), None) for body, picture in asked if picture is None]
        found = list(pool.map(lambda one: server.http.post("/v1/answer", json=one[0]), asked))
    for (body, _), response in zip(asked, found, strict=True):
        if body["model"] == "letters":
            assert response.status_code == 400
            assert "broken today" in response.json()["error"]["message"]
        else:
            assert response.json()["choice"] == told(models, body, None).text
    assert any(body["model"] == "letters" for body, _ in asked)
