"""What a server makes of bytes before they are a request: slow ones, too many connections, other protocols."""

import json
import re
import socket as sockets
import time
from typing import Any

import pytest

ASKED = {"question": "Which?", "choices": ["one", "two"], "model": "letters"}
BODY = json.dumps(ASKED).encode()
HEAD = b"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def connect(server: Any) -> sockets.socket:
    """Return a connection to a server."""
    return sockets.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10)


def said(client: sockets.socket) -> str:
    """Return all that a server says until it closes the connection."""
    return b"".join(iter(lambda: client.recv(1 << 16), b"")).decode()


def reason(reply: str) -> str:
    """Return the reason in an error that was read off a connection."""
    return str(json.loads(reply.partition("\r\n\r\n")[2])["error"]["message"])


@pytest.mark.parametrize(
    "start", [b"POST /v1/ans", HEAD, WHOLE + b"GET /he"], ids=["a line", "headers", "a second one"]
)
def test_a_slow_head_is_refused(serve: Any, start: bytes) -> None:
    """Its time is from its first byte on, however often another one comes; of a second request on a connection too."""
    with serve(head_seconds=0.4) as server, connect(server) as client:
        client.sendall(start)
        began = time.monotonic()
        client.settimeout(0.05)
        reply = b""
        while time.monotonic() - began < 3 and not reply.endswith(b"}}"):
            try:
                reply += client.recv(1 << 16)
                if b" 200 OK" in reply and b" 408 " not in reply:
                    reply = b""  # the first of two
            except TimeoutError:
                client.sendall(b"x")
        assert reply.startswith(b"HTTP/1.1 408")
        assert "did not arrive within 0.4 seconds" in reason(reply.decode())
        assert time.monotonic() - began < 2


def test_a_connection_that_says_nothing_is_closed(serve: Any) -> None:
    """Without a word: nothing was asked."""
    with serve(head_seconds=0.3) as server, connect(server) as client:
        assert said(client) == ""


def test_a_body_that_drips_is_refused(serve: Any) -> None:
    """A byte now and then does not make it longer; one that comes at a fair rate has its whole time."""
    with serve(body_pause=0.4, body_rate=1000, body_seconds=30) as server:
        with connect(server) as client:
            client.sendall(HEAD + b"Content-Length: 5000\r\n\r\n")
            began = time.monotonic()
            client.settimeout(0.05)
            reply = b""
            while not reply and time.monotonic() - began < 5:
                client.sendall(b" ")
                try:
                    reply = client.recv(1 << 16)
                except TimeoutError:
                    continue
            assert reply.startswith(b"HTTP/1.1 408")
            assert time.monotonic() - began < 2
        with connect(server) as client:
            content = b" " * 3000 + BODY
            client.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content))
            for start in range(0, len(content), 300):
                client.sendall(content[start : start + 300])
                time.sleep(0.1)
            assert said(client).startswith("HTTP/1.1 200")


def test_connections_have_a_bound(serve: Any) -> None:
    """One more is told to come back; when others have left, it is served."""
    with serve(connections=3) as server:
        held = [connect(server) for _ in range(3)]
        with connect(server) as client:
            reply = said(client)
        assert reply.startswith("HTTP/1.1 503")
        assert "retry-after: 1" in reply.lower()
        assert "connections are open already" in reason(reply)
        for one in held:
            one.close()
        time.sleep(0.2)
        assert server.http.post("/v1/answer", json=ASKED).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 3_000_000 + b"\r\n\r\n", 431),
    ],
    ids=["tls", "http2", "no host", "nul", "two lengths", "chunks", "large"],
)
def test_what_is_no_request_is_told_so(server: Any, content: bytes, status: int) -> None:
    """In the shape of all errors."""
    with connect(server) as client:
        client.sendall(content)
        reply = said(client)
    assert reply.startswith(f"HTTP/1.1 {status}")
    assert "no request of HTTP/1.1" in reason(reply)


def test_a_wish_for_another_protocol_is_passed_over(server: Any) -> None:
    """Nothing here speaks over a web socket: the request is answered as it stands."""
    for path, status in (("/health", 200), ("/v1/none", 404)):
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "eA==",
            "Sec-WebSocket-Version": "13",
        }
        assert server.http.get(path, headers=headers).status_code == status


def test_a_request_within_a_body_is_not_answered(server: Any) -> None:
    """Length and chunks that contradict each other cannot hide one."""
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = b"0\r\n\r\n" + hidden
    for headers in (b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(body), b"Transfer-Encoding: x\r\n"):
        with connect(server) as client:
            client.sendall(HEAD + headers + b"\r\n" + body)
            client.shutdown(sockets.SHUT_WR)
            reply = said(client)
        assert reply.startswith("HTTP/1.1 400")
        assert len(re.findall(r"^HTTP/1\.1 \d", reply, re.MULTILINE)) <= 1
        assert '"object": "list"' not in reply


def test_a_refusal_reaches_whoever_still_sends(serve: Any) -> None:
    """The connection is not reset under a client that sends all of its body before it reads."""
    with serve(body_bytes=10_000) as server, connect(server) as client:
        client.sendall(HEAD + b"Content-Length: 8000000\r\n\r\n")
        for _ in range(80):
            client.sendall(b"x" * 100_000)
        reply = said(client)
    assert reply.startswith("HTTP/1.1 413")
    assert "larger than 10,000 bytes" in reason(reply)


def test_routes_that_are_not_there_say_where_they_are(server: Any) -> None:
    """By path and method."""
    assert "no route for GET /v1/none; /openapi.json" in server.http.get("/v1/none").json()["error"]["message"]
    assert "GET /v1/answer: the route takes another" in server.http.get("/v1/answer").json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "where", "text"),
    [
        ("/v1/answer", b"", None, "the body is no JSON object; send one"),
        ("/v1/answer", b"[]", None, "the body is no JSON object; send one"),
        ("/v1/answer", b"// what", None, "the body is no JSON (Expecting value at character 0)"),
        (
            "/v1/completions",
            b'{"model": "base", "prompt": true}',
            "prompt",
            "a valid string, or Input should be a valid list",
        ),
        (
            "/v1/completions",
            b'{"model": "base", "prompt": "x", "stop": 3}',
            "stop",
            "stop: Input should be a valid string",
        ),
    ],
)
def test_a_wrong_field_is_named_as_the_client_knows_it(
    server: Any, path: str, body: bytes, where: str | None, text: str
) -> None:
    """Not by the types that it could be of."""
    found = server.http.post(path, content=body, headers={"Content-Type": "application/json"}).json()["error"]
    assert found["param"] == where
    assert text in found["message"]
