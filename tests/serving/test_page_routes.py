"""The page's files, what may be asked without a token, and what answers say for it over HTTP."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_protocol import Models, data_uri

from mm_adapter.serving.address import listen
from mm_adapter.serving.engine import Engine
from mm_adapter.serving.page_routes import FILES
from mm_adapter.serving.run_server import make_server

ASKED = {"question": "Which number?", "choices": ["one", "two"]}


def test_the_policy_lets_nothing_else_be_fetched(server: Any) -> None:
    """Every file of the page has it, and none names another address or holds a script or style of its own."""
    for path in (*FILES, "/page/examples.json"):
        response = server.http.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"].split("; ")
        assert policy[:2] == ["default-src 'self'", "img-src 'self' data: blob:"]
        if path != "/page/examples.json":
            text = response.text.replace("http://www.w3.org/2000/svg", "")
            assert "http:" not in text
            assert "https:" not in text
            assert "innerHTML" not in text
            assert "style=" not in text
    assert "page" not in json.dumps(list(server.http.get("/openapi.json").json()["paths"]))


def test_the_page_alone_needs_no_token(serve: Any) -> None:
    """Its files are open, and nothing that a model says."""
    with serve(token="secret") as server, httpx.Client(base_url=server.url) as anybody:
        for path in (*FILES, "/page/examples.json"):
            assert anybody.get(path).status_code == 200
        assert anybody.get("/v1/models").status_code == 401
        assert anybody.post("/v1/answer", json=ASKED).status_code == 401
        assert anybody.get("/page/other.js").status_code == 401


def test_examples_are_questions_that_can_be_asked(server: Any, models: Models) -> None:
    """Each is answered as it comes, with its picture."""
    examples = server.http.get("/page/examples.json").json()
    assert [example["image"] is not None for example in examples] == [True] * 4 + [False]
    assert len({example["question"] for example in examples}) == 5
    for example in examples:
        reply = server.http.post("/v1/answer", json=example | {"model": "sees"})
        assert reply.status_code == 200, reply.text
        assert reply.json()["choice"] in example["choices"]


def test_models_say_what_they_take(ways: Models, serving: Any) -> None:
    """As what each of them then refuses."""
    with serving(ways) as server:
        for told in server.http.get("/v1/models").json()["data"]:
            name, takes = told["id"], told["takes"]
            tries = {"gate_scale": 0.5, "attention": True, "image": data_uri_of(server)}
            for field, value in tries.items():
                status = server.http.post("/v1/answer", json=ASKED | {"model": name, field: value}).status_code
                assert (status == 200) == takes[field], (name, field)
            assert server.openai.models.retrieve(name).id == name


def data_uri_of(server: Any) -> str:
    return str(server.http.get("/page/examples.json").json()[0]["image"])


def test_gates_and_streams_over_http(server: Any, models: Models, picture: Path) -> None:
    """``gate_scale`` of answers, chats and completions; a stream's pieces add up to the answer that ends it."""
    half = models["sees"].with_gates(0.5)
    request = ASKED | {"model": "sees", "image": data_uri(picture), "gate_scale": 0.5}
    reply = server.http.post("/v1/answer", json=request).json()
    assert reply["probabilities"] == pytest.approx(
        half.answer(ASKED["question"], picture, ASKED["choices"]).probabilities
    )
    assert reply["attention"] is None
    told = half.answer("Which number?", picture, max_new_tokens=20)
    free = {"model": "sees", "question": "Which number?", "image": data_uri(picture), "gate_scale": 0.5}
    with server.http.stream("POST", "/v1/answer", json=free | {"stream": True, "max_new_tokens": 20}) as response:
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event) for event in events[:-1]]
    assert len(pieces) > 3
    assert "".join(piece["text"] for piece in pieces[:-1]).strip() == pieces[-1]["choice"] == told.text
    parts = [{"type": "text", "text": "Which number?"}, {"type": "image_url", "image_url": {"url": data_uri(picture)}}]
    chat = server.openai.chat.completions.create(
        model="sees",
        messages=[{"role": "user", "content": parts}],
        max_tokens=20,
        extra_body={"gate_scale": 0.5},
    )
    assert chat.choices[0].message.content.strip() == told.text
    done = server.openai.completions.create(model="talks", prompt="Once", max_tokens=20, extra_body={"gate_scale": 0.0})
    assert done.choices[0].text == models["base"].generate(["Once"], max_new_tokens=20)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gate_scale": 1.01}, "gate_scale"),
        ({"gate_scale": -0.1}, "gate_scale"),
        ({"model": "base", "gate_scale": 0.5}, "base: gates cannot be scaled: there is no adapter"),
        ({"model": "base", "attention": True}, "base has no gated prompts"),
    ],
    ids=str,
)
def test_wrong_wishes_are_refused(server: Any, changes: Any, said: str) -> None:
    """By an error that names the field or the model."""
    response = server.http.post("/v1/answer", json=ASKED | {"model": "sees"} | changes)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


def test_the_address_is_printed_and_opened(
    models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the server listens it says where the page is; with --open the browser is sent there."""
    found: list[str] = []

    def visit(address: str) -> bool:
        found.append(httpx.get(address).text)
        return True

    monkeypatch.setattr("webbrowser.open", visit)
    with listen("127.0.0.1", 0) as socket:
        port = socket.getsockname()[1]
        server = make_server(Engine(models))
        server.open_page = True
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        end = time.monotonic() + 20
        while not found and time.monotonic() < end:
            time.sleep(0.01)
        server.should_exit = True
        thread.join(20)
    assert f"ask on the page http://127.0.0.1:{port}/" in capsys.readouterr().err
    assert "<title>mm-adapter: ask</title>" in found[0]
