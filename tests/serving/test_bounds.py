"""What a server refuses, and how it ends: bounds of queue, body, tokens and time; SIGTERM leaves nobody waiting."""

import json
import os
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_protocol import NAMES, Models

from mm_adapter.core.errors import UserError
from mm_adapter.serving.address import check_address, listen
from mm_adapter.serving.engine import Engine
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.loading import load_models
from mm_adapter.serving.prompts import Writing, question_job, text_prompt, writing_jobs

ROOT = Path(__file__).resolve().parent.parent.parent
SAVED = ROOT / "tests" / "saved"
ASKED = {"question": "Which?", "choices": ["one", "two"], "model": "letters"}
LONG = {"model": "base", "prompt": "Once", "max_tokens": 900}


def until(happens: Any, seconds: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_full_queue_says_when_to_come_back(serve: Any) -> None:
    """One text is written, two wait, the fourth gets 503 with Retry-After; those that were accepted are answered."""
    with serve(queue=2, rows=1) as server, ThreadPoolExecutor(3) as pool:
        first = pool.submit(server.http.post, "/v1/completions", json=LONG)
        until(lambda: server.engine.rows == 1)
        waiting = [pool.submit(server.http.post, "/v1/completions", json=LONG | {"max_tokens": 3}) for _ in range(2)]
        until(lambda: server.engine.waiting == 2)
        refused = server.http.post("/v1/completions", json=LONG | {"max_tokens": 3})
        streamed = server.http.post("/v1/completions", json=LONG | {"stream": True})
        assert refused.status_code == streamed.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert "2 requests wait, and at most 2 may" in refused.json()["error"]["message"]
        assert server.http.get("/health").json() == {"status": "ok", "waiting": 2, "rows": 1}
        assert [done.result().status_code for done in (first, *waiting)] == [200] * 3


def test_rows_have_their_memory(serve: Any) -> None:
    """Texts that would be long wait for one another, where many short ones go together."""
    with serve(positions=500) as server, ThreadPoolExecutor(8) as pool:
        for tokens, most in ((100, 4), (40, 8)):
            both = [
                pool.submit(server.http.post, "/v1/completions", json=LONG | {"max_tokens": tokens}) for _ in range(8)
            ]
            seen = 0
            while not all(done.done() for done in both):
                seen = max(seen, server.engine.rows)
                time.sleep(0.001)
            assert [done.result().status_code for done in both] == [200] * 8
            assert 1 < seen <= most


def test_a_request_has_its_time(serve: Any) -> None:
    """One that takes longer is given up, waiting or being written; a stream says so in its last event."""
    with serve(seconds=0.4, rows=1, new_tokens=1000, tokens=1024) as server, ThreadPoolExecutor(2) as pool:
        both = [pool.submit(server.http.post, "/v1/completions", json=LONG | {"n": 2}) for _ in range(2)]
        assert [done.result().status_code for done in both] == [503, 503]
        assert "within 0.4 seconds" in both[0].result().json()["error"]["message"]
        text = server.http.post("/v1/completions", json=LONG | {"stream": True}).text
        assert (
            "within 0.4 seconds" in json.loads(text.strip().splitlines()[-1].removeprefix("data: "))["error"]["message"]
        )
        assert server.http.post("/v1/answer", json=ASKED).status_code == 200


def test_whoever_leaves_is_not_written_for(serve: Any) -> None:
    """A client that closes a stream, or does not wait for its answer, frees its row."""
    with serve(rows=2) as server:
        with server.http.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as response:
            next(response.iter_lines())
            assert server.engine.rows == 1
        with pytest.raises(httpx.ReadTimeout):
            server.http.post("/v1/completions", json=LONG, timeout=0.3)
        until(lambda: server.engine.rows == 0, 2)
        assert server.engine.written < 900


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(serve: Any, chunked: bool) -> None:
    """By what it claims, or once more has come than may; what is held is let go again."""
    with serve(body_bytes=10_000) as server:
        body = json.dumps(ASKED | {"context": "x" * 20_000}).encode()
        content: Any = (body[start : start + 1000] for start in range(0, len(body), 1000)) if chunked else body
        try:
            response = server.http.post("/v1/answer", content=content, headers={"Content-Type": "application/json"})
        except httpx.WriteError:
            pytest.skip("the system was told of the end before it had sent all")
        assert response.status_code == 413
        assert "larger than 10,000 bytes" in response.json()["error"]["message"]
        assert server.http.post("/v1/answer", json=ASKED).status_code == 200
        figures = dict(line.rsplit(" ", 1) for line in server.http.get("/metrics").text.splitlines() if line[0] != "#")
        assert figures["mm_adapter_body_bytes_held"] == "0"


def test_a_slow_body_is_refused(serve: Any) -> None:
    """A client that sends a letter now and then does not hold a place for ever."""
    with serve(body_seconds=0.3) as server:
        port = int(server.url.rsplit(":", 1)[1])
        with sockets.create_connection(("127.0.0.1", port), timeout=10) as client:
            head = (
                "POST /v1/answer HTTP/1.1",
                "Host: localhost",
                "Content-Type: application/json",
                "Content-Length: 99",
            )
            client.sendall("\r\n".join((*head, "", "{")).encode())
            said = "".join(iter(lambda: client.recv(10_000).decode(), ""))
        assert said.startswith("HTTP/1.1 408")
        assert "did not arrive within 0.3 seconds" in said


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"' + b"\xff" * 9 + b'"', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"question": NaN, "choices": [Infinity]}', "application/json", 400),
        (b'{"model": "\\ud800", "question": "a"}', "application/json", 404),
        (json.dumps(ASKED).encode(), "text/plain", 415),
        (b"", "application/json", 400),
    ],
)
def test_bodies_that_are_no_request(server: Any, body: bytes, kind: str, status: int) -> None:
    """A clear error in the protocol's shape, never one of the server's own."""
    response = server.http.post("/v1/answer", content=body, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_its_own_errors_are_in_its_log_alone(serve: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A client learns that there was one, whole or in a stream; the words are in the log, and the next is answered."""

    def fail(*_: Any) -> None:
        raise RuntimeError("the words of the error")

    with serve() as server:
        with monkeypatch.context() as broken:
            broken.setattr("mm_adapter.inference.decoding.DecodingBatch.join", fail)
            whole = server.http.post("/v1/completions", json=LONG)
            stream = server.http.post("/v1/completions", json=LONG | {"stream": True})
        assert whole.status_code == 500
        assert whole.json()["error"]["message"] == "an error of the server itself; see its log."
        assert "an error of the server itself" in stream.text
        assert "the words of the error" not in whole.text + stream.text
        assert capsys.readouterr().err.count("RuntimeError: the words of the error") >= 2
        assert server.http.post("/v1/completions", json=LONG | {"max_tokens": 2}).status_code == 200


def test_other_paths_and_methods(server: Any) -> None:
    """What is not there is told in the same shape; the description lists every route."""
    assert server.http.get("/v1/none").json()["error"]["type"] == "not_found_error"
    assert server.http.get("/v1/answer").status_code == 405
    assert server.http.get("/v1/models/none").json()["error"]["code"] == "model_not_found"
    paths = server.http.get("/openapi.json").json()["paths"]
    assert {"/v1/answer", "/v1/answer/batch", "/v1/chat/completions", "/v1/completions", "/v1/models"} <= set(paths)
    assert {"/health", "/metrics"} <= set(paths)


def test_figures_are_kept(server: Any) -> None:
    """In Prometheus' format, every sample with its type; requests count by path and status."""
    before = server.http.post("/v1/answer", json=ASKED)
    text = server.http.get("/metrics").text
    assert before.status_code == 200
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    kinds = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert kinds == {line.partition("{")[0].partition(" ")[0] for line in lines}
    figures = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    assert figures['mm_adapter_requests_total{path="/v1/answer",status="200"}'] >= 1
    assert figures["mm_adapter_questions_scored_total"] >= 1


def test_a_token_is_asked_for(serve: Any) -> None:
    """Without it, or with another, nothing but /health is told."""
    with serve(token="secret") as server:
        assert server.http.post("/v1/answer", json=ASKED).status_code == 200
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic secret"}):
            for path in ("/v1/models", "/metrics", "/openapi.json"):
                response = httpx.get(f"{server.url}{path}", headers=headers)
                assert response.status_code == 401
                assert response.json()["error"]["type"] == "authentication_error"
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_another_name_is_refused_without_a_token(server: Any) -> None:
    """A page elsewhere whose name points to this machine cannot have a browser ask."""
    assert httpx.get(f"{server.url}/health", headers={"Host": "evil.example"}).status_code == 421
    assert httpx.get(f"{server.url}/health", headers={"Host": "LOCALHOST:80"}).status_code == 200
    assert httpx.get(f"{server.url}/health", headers={"Host": "[::1]:80"}).status_code == 200


def test_other_machines_need_a_token() -> None:
    """An address that they can reach is refused without one, and one that no header can hold."""
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(UserError, match="MM_ADAPTER_TOKEN is not set"):
            check_address(host, None)
        check_address(host, "secret")
    for token in ("", " a", "a\n", "ä"):
        with pytest.raises(UserError, match="printable ASCII"):
            check_address("localhost", token)
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_adapters_share_their_base(models: Models) -> None:
    """The frozen weights are in memory once; what cannot share them is refused by name."""
    assert len({id(model.llama) for model in models.values()}) == 1
    with pytest.raises(UserError, match="has trained the model's own weights"):
        load_models(str(SAVED / "llama"), {"lora": SAVED / "lora"})
    with pytest.raises(UserError, match="named 'base'"):
        load_models(str(SAVED / "llama"), {"base": SAVED / "text"})


def test_an_engine_in_python(models: Models) -> None:
    """Without a server: what was accepted is done when it is closed, and nothing is accepted after."""
    limits = Limits(rows=3)
    engine = Engine(models, limits)
    with engine:
        asked = [question_job(name, models[name], limits, "Which?", ["one", "two"]) for name in NAMES]
        prompt = text_prompt(models["talks"], limits, "Once")
        texts = writing_jobs("talks", models["talks"], limits, prompt, Writing(40, count=8))
        answers, written = engine.submit(asked), engine.submit(texts)
    for name, answer in zip(NAMES, answers, strict=True):
        assert answer.result(0).answer.text == models[name].answer("Which?", choices=["one", "two"]).text
    assert {text.result(0).text for text in written} == set(models["talks"].generate([prompt], max_new_tokens=40))
    with pytest.raises(UserError, match="takes no further request"):
        engine.submit([question_job("base", models["base"], limits, "Which?", ["one", "two"])])


def test_sigterm_answers_all_that_was_accepted(tmp_path: Path) -> None:
    """A process that is asked to end while it writes: no accepted request is without its answer; status 0."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    adapters = ["--adapter", f"letters={SAVED / 'text'}", "--adapter", f"talks={SAVED / 'conversations'}"]
    command = [sys.executable, "-m", "mm_adapter", "serve", "--llama", str(SAVED / "llama"), *adapters, "--port", "0"]
    log = tmp_path / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(command, env=environment, stderr=file, stdout=file)
    try:
        until(lambda: b"serving on " in log.read_bytes() or process.poll() is not None, 60)
        url = log.read_text().split("serving on ")[1].split()[0]
        began = threading.Barrier(13)
        streams: list[str] = []

        def stream(number: int) -> None:
            asked = LONG | {"model": "talks", "stream": True, "max_tokens": 100 + number, "n": 2, "logprobs": 0}
            with httpx.stream("POST", f"{url}/v1/completions", json=asked, timeout=60) as response:
                lines = response.iter_lines()
                first = next(lines)
                began.wait()
                streams.append("\n".join([first, *lines]))

        threads = [threading.Thread(target=stream, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        began.wait()
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert process.wait(60) == 0
        assert len(streams) == 12
        for text in streams:
            assert text.rstrip().endswith("data: [DONE]")
            assert text.count('"finish_reason":"length"') + text.count('"finish_reason":"stop"') == 2
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()
