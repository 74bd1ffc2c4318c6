"""Hostile requests: slow clients, huge bodies, wrong types, floods, lies, other protocols, connections that are left."""

import base64
import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from hostile_pictures import encoded, noise
from hostile_process import Hostile
from hostile_server import HostileServer, answered, post, request, well_said

ASKED: dict[str, Any] = {"model": "letters", "question": "Which?", "choices": ["one", "other"]}
_CHAT: dict[str, Any] = {"model": "talks", "messages": [{"role": "user", "content": "Well?"}], "max_tokens": 2}
_TEXT: dict[str, Any] = {"model": "base", "prompt": "Once", "max_tokens": 2}
_ODD: tuple[Any, ...] = (None, True, -1, 0, 1e308, 10**30, 1.5, "", "x", "\0", [], [[]], {}, {"a": 1}, [None], ["x"] * 99)
_HEAD = "POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_BODY = json.dumps(ASKED).encode()
_SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"

Act = Callable[[], tuple[int | None, str]]
"""Asks, and returns status and body; no status where the server has closed a connection that it may close."""


def _slow(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """A letter now and then, of the body, the headers or nothing."""
    kind = draw.choice(("body", "headers", "chunks", "nothing", "lines"))
    starts = {"headers": b"POST /v1/answer HT", "nothing": b"", "lines": _HEAD.encode()}
    starts |= {"body": _HEAD.encode() + b"Content-Length: 9000\r\n\r\n"}
    start = starts.get(kind, _HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
    letters = {"chunks": b"1\r\n \r\n", "lines": b"X-More: 1\r\n", "nothing": b""}

    def drip() -> Iterator[bytes]:
        end = time.monotonic() + 15
        yield start
        while time.monotonic() < end:
            time.sleep(0.2)
            yield letters.get(kind, b" ")

    def act() -> tuple[int | None, str]:
        try:
            return server.exchange(drip())[:2]
        except ConnectionError:
            return None, "closed"

    return f"slow {kind}", act


def _huge(draw: Random, server: HostileServer) -> tuple[str, Act]:
    kind = draw.choice(("claimed", "sent", "chunked", "field", "header", "headers", "path", "blank"))
    size = draw.choice((33 << 20, 70 << 20))
    content: Any = {
        "claimed": lambda: _HEAD.encode() + b"Content-Length: %d\r\n\r\n{" % draw.choice((10**11, 10**18, 10**30)),
        "sent": lambda: request("POST", "/v1/answer", b"x" * size),
        "field": lambda: post("/v1/answer", ASKED | {"question": "x" * (30 << 20)}),
        "blank": lambda: request("POST", "/v1/answer", b" " * (31 << 20) + _BODY),
        "header": lambda: request("GET", "/health", headers=[f"X: {'x' * draw.choice((70_000, 3_000_000))}"]),
        "headers": lambda: request("GET", "/health", headers=[f"X-{number}: 1" for number in range(20_000)]),
        "path": lambda: request("GET", "/v1/models/" + "x" * draw.choice((9_000, 200_000))),
        "chunked": lambda: _chunked(size),
    }[kind]()
    return f"huge {kind}", lambda: server.exchange(content, method="GET" if kind in ("header", "path") else "POST")[:2]


def _chunked(size: int) -> Iterator[bytes]:
    yield _HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n"
    for _ in range(size >> 16):
        yield b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    yield b"0\r\n\r\n"


def _types(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """A wrong type or value in a field, known or not."""
    path, body, more = draw.choice(
        (
            ("/v1/answer", ASKED, ("context", "image", "max_new_tokens", "extra")),
            ("/v1/answer/batch", {"questions": [ASKED]}, ("model",)),
            ("/v1/chat/completions", _CHAT, ("temperature", "top_p", "stop", "seed", "n", "stream", "logprobs", "tools")),
            ("/v1/completions", _TEXT, ("temperature", "top_k", "stop", "seed", "n", "echo", "logprobs", "suffix")),
        )
    )
    field, value = draw.choice([*body, *more]), draw.choice(_ODD)
    changed = body | {field: value}
    if field in ("questions", "messages") and draw.random() < 0.7:
        changed = body | {field: [body[field][0] | {draw.choice(list(body[field][0])): value}]}

    def act() -> tuple[int | None, str]:
        return server.exchange(post(path, changed))[:2]

    return f"{path} {field} {str(value)[:30]!r}", act


def _numbers(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Token ids, counts and numbers that are none of the model's."""
    kind, changes = draw.choice(
        (
            ("ids", {"prompt": [draw.choice((-1, 10**9, 10**40, 258))]}),
            ("many ids", {"prompt": [5] * 200_000}),
            ("many prompts", {"prompt": ["x"] * draw.choice((65, 20_000))}),
            ("mixed", {"prompt": [1, "x"]}),
            ("empty", {"prompt": draw.choice(([], [[]], "", [""], [[1], []]))}),
            ("n", {"n": draw.choice((9, 10**9)), "seed": 2**63 - 1}),
            ("many n", {"n": 8, "prompt": ["x"] * 64, "max_tokens": 1024}),
            ("max_tokens", {"max_tokens": draw.choice((1025, 10**12, 0))}),
            ("seed", {"seed": draw.choice((-1, 2**70)), "temperature": 1.0}),
            ("stops", {"stop": draw.choice((["x"] * 17, "", ["y" * 201], ["\0"]))}),
            ("draws", {"temperature": draw.choice((1e-300, 100, 1e-9)), "top_p": draw.choice((1e-300, 1.0))}),
            ("penalty", {"repetition_penalty": draw.choice((0.01, 100, 1e300)), "temperature": 100.0}),
            ("logprobs", {"logprobs": draw.choice((20, 21, 10**9)), "echo": True}),
        )
    )
    return f"numbers {kind} {str(changes)[:50]}", lambda: server.exchange(post("/v1/completions", _TEXT | changes))[:2]


def _json(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Bodies that are no JSON, or JSON that no program should meet."""
    body = draw.choice(
        (
            *(b"[" * 100_000, b'{"a":' * 100_000, b"", b"null", b"3", b'"x"', b"{" + _BODY, _BODY[:-1], b"\xff\xfe" + _BODY),
            *(json.dumps(ASKED).encode("utf-16"), json.dumps(ASKED).encode("utf-32"), b"\xef\xbb\xbf" + _BODY),
            *(b'{"question": NaN}', b'{"max_new_tokens": ' + b"9" * 10_000 + b"}", b'{"question": "\\ud800"}'),
            *(b'{"question": "\xed\xa0\x80"}', b'{"question":"a","question":"b","choices":["one","other"]}'),
            *(b'{"choices": [' + b'"a",' * 500_000 + b'"a"]}', b'{"a": 1,' * 3 + b"}", b"\0" * 1000, b"//\n" + _BODY),
            *(b'{"__proto__": {"a": 1}, "question": "a"}', b'{"\\ud800": 1, "question": "a"}', b"a=b&c=d"),
        )
    )
    kind = draw.choice(("application/json", "application/json; charset=utf-16", "text/plain", "multipart/form-data", "x"))
    headers = [f"Content-Type: {kind}"]
    name = f"body {body[:20]!r} as {kind}"
    return name, lambda: server.exchange(request("POST", "/v1/answer", body, headers))[:2]


def _uri(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Data URIs that lie on type, length or base64; other schemes; many at a time."""
    png = base64.b64encode(encoded(noise(draw, 20, 20), "png")).decode()
    good = f"data:image/png;base64,{png}"
    uri: Any = draw.choice(
        (
            *(f"data:text/html;base64,{png}", f"data:image/png,{png}", f"data:image/png;base64,{png[:-3]}", "data:,"),
            *("data:image/png;base64,", f"data:;base64,{png}", f"data:image/png;base64,{png}\n\n", "data:image/png"),
            *(f"data:image/png;length=9;base64,{png}", f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}"),
            *(f"data:image/png;{'a=b;' * 50_000}base64,{png}", f"DATA:IMAGE/PNG;BASE64,{png}", good.replace("A", "é")),
            *("http://127.0.0.1:1/x.png", "file:///etc/passwd", "ftp://x/y", "//x", "javascript:1", "\0", good * 2, ""),
            *(f"data:image/png;base64,{'A' * (20 << 20)}", f"data:image/png;base64,{'=' * 9}", f"{good}#x", f" {good}"),
        )
    )
    if draw.random() < 0.3:
        part = {"type": "image_url", "image_url": draw.choice(({"url": uri}, uri, {}, {"url": uri, "detail": 3}))}
        message = {"role": "user", "content": draw.choice(([part], [part] * 3, [part, {"type": "text", "text": "x"}]))}
        return f"chat, picture {uri[:40]!r}", lambda: server.exchange(
            post("/v1/chat/completions", {"model": "sees", "messages": [message], "max_tokens": 2})
        )[:2]
    asked = ASKED | {"model": "sees", "image": uri}
    return f"picture {uri[:40]!r}", lambda: server.exchange(post("/v1/answer", asked))[:2]


def _method(draw: Random, server: HostileServer) -> tuple[str, Act]:
    method = draw.choice(("DELETE", "PUT", "PATCH", "TRACE", "OPTIONS", "HEAD", "GARBAGE", "get", "PROPFIND", "GET"))
    path = draw.choice(
        (
            *("/v1/answer", "/v1/chat/completions", "/health", "/v1/../etc/passwd", "//v1/answer", "/%2e%2e/%2e%2e/etc"),
            *("/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/..%2f..", "/?" + "a=b&" * 5000, "/v1/answer/", "/%"),
            *("http://localhost/v1/models", "http://evil.example/v1/models", "/v1/models/%F0%9F%98%80", "/openapi.json"),
        )
    )

    def act() -> tuple[int | None, str]:
        status, body, _ = server.exchange(request(method, path, b"{}" if method in ("PUT", "PATCH") else b""), method=method)
        reason = json.dumps({"error": {"message": "no body belongs to the reply to HEAD"}})
        return status, reason if method == "HEAD" and not body else body

    return f"{method} {path[:40]}", act


def _smuggled(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Headers that two servers would read in two ways: one reply at most, and never to what is hidden in a body."""
    chunked = b"0\r\n\r\n" + _SMUGGLED
    length = f"Content-Length: {len(chunked)}\r\n"
    extra, body = draw.choice(
        (
            (f"{length}Transfer-Encoding: chunked\r\n", chunked),
            (f"Transfer-Encoding: chunked\r\n{length}", chunked),
            (f"Transfer-Encoding: xchunked\r\n{length}", chunked),
            (f"Transfer-Encoding: chunked, identity\r\n{length}", chunked),
            (f"Transfer-Encoding : chunked\r\n{length}", chunked),
            (f"Transfer-Encoding:\r\n chunked\r\n{length}", chunked),
            (f"Transfer-Encoding: \x0bchunked\r\n{length}", chunked),
            (f"Content-Length: {len(_BODY)}\r\nContent-Length: 3\r\n", _BODY + _SMUGGLED),
            (f"Content-Length: {len(_BODY)}, {len(_BODY)}\r\n", _BODY),
            (f"Content-Length: +{len(_BODY)}\r\n", _BODY),
            ("Content-Length: -1\r\n", _BODY),
            ("Content-Length: 0x10\r\n", _BODY),
            (f"Content-Length: {len(_BODY)}\r\nX: a\0b\r\n", _BODY),
            (f"Content-Length: {len(_BODY)}\r\nHost: evil.example\r\n", _BODY),
            (f"Content-Length: {len(_BODY)}\r\nX: a\nHost: evil.example\r\n", _BODY),
            ("", _BODY + _SMUGGLED),
        )
    )

    def act() -> tuple[int | None, str]:
        content = _HEAD.replace("Host", "Connection: close\r\nHost").encode() + extra.encode() + b"\r\n" + body
        try:
            status, said, more = server.exchange(content)
        except ConnectionError:
            return None, "closed"
        if more:
            return 999, f"{more} more replies came"
        return status, said

    return f"smuggled {extra!r}", act


def _left(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Connections that are half-closed, reset or left: before, amid and after the request."""
    long = post("/v1/completions", _TEXT | {"prompt": "Once upon", "max_tokens": 700, "stream": draw.random() < 0.5})
    kind = draw.choice(("half-closed", "half a body", "reset", "reset at once", "amid a stream", "half-closed and long"))
    content = {"half-closed": post("/v1/answer", ASKED), "half a body": post("/v1/answer", ASKED)[:-9]}.get(kind, long)

    def act() -> tuple[int | None, str]:
        if kind == "half-closed":
            with contextlib.suppress(ConnectionError):
                return server.exchange(content, half_close=True)[:2]
            return None, "closed"
        with server.connect() as client:
            client.sendall(content)
            if kind.startswith("reset"):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                time.sleep(0 if kind.endswith("once") else 0.1)
                return None, "left"
            if kind == "amid a stream":
                client.recv(100)
                return None, "left"
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
        return None, "closed"

    return kind, act


def _chunks(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Chunked bodies without an end, with sizes and trailers that lie."""
    body = draw.choice(
        (
            *(b"5\r\n{\"a\":", b"FFFFFFFFFFFFFFFF\r\n{", b"-1\r\n{}\r\n0\r\n\r\n", b"zz\r\n{}\r\n", b"1;" + b"x" * 90_000),
            *(b"2\r\n{}\r\n", b"%x\r\n" % len(_BODY) + _BODY + b"\r\n0\r\nX: " + b"y" * 90_000, b"2\r\n{}0\r\n\r\n"),
            *(b"%x\r\n" % len(_BODY) + _BODY + b"\r\n0\r\n\r\n", b"1\r\n{\r\n" * 50_000, b"0\r\n\r\n"),
        )
    )
    content = _HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body
    return f"chunks {body[:20]!r}", lambda: server.exchange([content])[:2]


def _protocol(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Upgrades and other protocols."""
    upgrade = ["Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    socket_head = request("GET", draw.choice(("/", "/v1/answer", "/health")), headers=["Upgrade: websocket", *upgrade])
    content = draw.choice(
        (
            *(socket_head.replace(b"Connection: close\r\n", b""), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 60),
            *(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 500, b"GET /health\r\n\r\n", b"\0" * 200_000, b"\r\n" * 9),
            *(b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n", b"EHLO x\r\n"),
            *(b"GET /health HTTP/1.1\r\n\r\n", _HEAD.encode() + b"Expect: 100-continue\r\nContent-Length: 9999\r\n\r\n"),
            *(_HEAD.encode() + b"Expect: x\r\nContent-Length: 2\r\n\r\n{}", b"\x80" * 9 + b"\r\n\r\n"),
            request("POST", "/v1/answer", _BODY, ["Content-Encoding: gzip"]),
            request("GET", "/health", headers=["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
        )
    )

    def act() -> tuple[int | None, str]:
        try:
            return server.exchange(content)[:2]
        except ConnectionError:
            return None, "closed"

    return f"protocol {content[:24]!r}", act


def _flood(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """More requests or connections than may be, at a time or one behind another; a further client is answered."""
    kind = draw.choice(("requests", "texts", "connections", "pipeline"))
    count = {"requests": 150, "texts": 60, "connections": 1500, "pipeline": 200}[kind]

    def act() -> tuple[int | None, str]:
        if kind == "connections":
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    stack.enter_context(server.connect())
                return server.exchange(post("/v1/answer", ASKED))[:2]
        if kind == "pipeline":
            return server.exchange(post("/v1/answer", ASKED).replace(b"Connection: close\r\n", b"") * count)[:2]
        body = post("/v1/answer", ASKED) if kind == "requests" else post("/v1/completions", _TEXT | {"max_tokens": 40})
        with ThreadPoolExecutor(count) as pool:
            replies = list(pool.map(lambda _: server.exchange(body)[:2], range(count)))
        bad = [reply for reply in replies if reply[0] not in (200, 503)]
        return bad[0] if bad else replies[-1]

    return f"flood of {count} {kind}", act


FORMS = (
    *(_slow, _huge, _types, _numbers, _json, _uri, _method, _smuggled, _left, _chunks, _protocol),
    *(_flood, _types, _uri, _json, _types, _method),
)


def draw_request(draw: Random, folder: Path, places: dict[str, Any], number: int) -> Hostile:
    """Draw a request; a reply is one reason why not, or an answer in the shape of its route."""
    server: HostileServer = places["server"]
    name, ask = FORMS[number % len(FORMS)](draw, server)
    return Hostile(f"http: {name}", "http", lambda: server.outcome(ask), well_said, group="http")


def well_meant(draw: Random, folder: Path, places: dict[str, Any]) -> list[Hostile]:
    """Return a question with a large picture in its body, and texts of some length at a time."""
    server: HostileServer = places["server"]
    picture = base64.b64encode(encoded(noise(draw, 1200, 1000), "bmp")).decode()
    asked = ASKED | {"model": "sees", "image": f"data:image/bmp;base64,{picture}"}
    texts = _TEXT | {"prompt": ["Once upon a time. " * 20] * 16, "max_tokens": 30}

    def both() -> tuple[int | None, str]:
        status, said, _ = server.exchange(post("/v1/completions", texts))
        return server.exchange(post("/v1/answer", asked))[:2] if status == 200 else (status, said)

    return [
        Hostile("both", "http", lambda: server.outcome(both), lambda found: well_said(found, answered, False), group="http")
    ]
