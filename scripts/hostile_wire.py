"""Hostile bytes: slow clients, floods, doubtful headers, chunks without an end, other protocols, clients that leave."""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

from hostile_server import HostileServer, post, request

ASKED: dict[str, Any] = {"model": "letters", "question": "Which?", "choices": ["one", "other"]}
TEXT: dict[str, Any] = {"model": "base", "prompt": "Once", "max_tokens": 2}
HEAD = b"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = json.dumps(ASKED).encode()
_HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"

Act = Callable[[], tuple[int | None, str]]
"""Asks, and returns status and body; no status where the server has closed a connection that it may close."""


def slow(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """A letter now and then, of the body, the headers or nothing."""
    kind = draw.choice(("body", "headers", "chunks", "nothing", "lines"))
    starts = {"headers": b"POST /v1/answer HT", "nothing": b"", "lines": HEAD}
    starts |= {"body": HEAD + b"Content-Length: 9000\r\n\r\n"}
    start = starts.get(kind, HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
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


def smuggled(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Headers that two servers would read in two ways: one reply at most, and never to what is hidden in a body."""
    chunked = b"0\r\n\r\n" + _HIDDEN
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
            (f"Content-Length: {len(BODY)}\r\nContent-Length: 3\r\n", BODY + _HIDDEN),
            (f"Content-Length: {len(BODY)}, {len(BODY)}\r\n", BODY),
            (f"Content-Length: +{len(BODY)}\r\n", BODY),
            ("Content-Length: -1\r\n", BODY),
            ("Content-Length: 0x10\r\n", BODY),
            (f"Content-Length: {len(BODY)}\r\nX: a\0b\r\n", BODY),
            (f"Content-Length: {len(BODY)}\r\nHost: evil.example\r\n", BODY),
            (f"Content-Length: {len(BODY)}\r\nX: a\nHost: evil.example\r\n", BODY),
            ("", BODY + _HIDDEN),
        )
    )

    def act() -> tuple[int | None, str]:
        content = HEAD.replace(b"Host", b"Connection: close\r\nHost") + extra.encode() + b"\r\n" + body
        try:
            status, said, more = server.exchange(content)
        except ConnectionError:
            return None, "closed"
        if more:
            return 999, f"{more} more replies came"
        return status, said

    return f"smuggled {extra!r}", act


def left(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Connections that are half-closed, reset or left: before, amid and after the request."""
    long = post("/v1/completions", TEXT | {"prompt": "Once upon", "max_tokens": 700, "stream": draw.random() < 0.5})
    kind = draw.choice(
        ("half-closed", "half a body", "reset", "reset at once", "amid a stream", "half-closed and long")
    )
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


def chunks(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Chunked bodies without an end, with sizes and trailers that lie."""
    body = draw.choice(
        (
            *(
                b'5\r\n{"a":',
                b"FFFFFFFFFFFFFFFF\r\n{",
                b"-1\r\n{}\r\n0\r\n\r\n",
                b"zz\r\n{}\r\n",
                b"1;" + b"x" * 90_000,
            ),
            *(b"2\r\n{}\r\n", b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\nX: " + b"y" * 90_000, b"2\r\n{}0\r\n\r\n"),
            *(b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n", b"1\r\n{\r\n" * 50_000, b"0\r\n\r\n"),
        )
    )
    content = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body
    return f"chunks {body[:20]!r}", lambda: server.exchange([content])[:2]


def protocol(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Upgrades and other protocols."""
    upgrade = ["Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    socket_head = request("GET", draw.choice(("/", "/v1/answer", "/health")), headers=["Upgrade: websocket", *upgrade])
    content = draw.choice(
        (
            *(socket_head.replace(b"Connection: close\r\n", b""), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 60),
            *(
                b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 500,
                b"GET /health\r\n\r\n",
                b"\0" * 200_000,
                b"\r\n" * 9,
            ),
            *(b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n", b"EHLO x\r\n"),
            *(
                b"GET /health HTTP/1.1\r\n\r\n",
                HEAD + b"Expect: 100-continue\r\nContent-Length: 9999\r\n\r\n",
            ),
            *(HEAD + b"Expect: x\r\nContent-Length: 2\r\n\r\n{}", b"\x80" * 9 + b"\r\n\r\n"),
            request("POST", "/v1/answer", BODY, ["Content-Encoding: gzip"]),
            request("GET", "/health", headers=["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
        )
    )

    def act() -> tuple[int | None, str]:
        try:
            return server.exchange(content)[:2]
        except ConnectionError:
            return None, "closed"

    return f"protocol {content[:24]!r}", act


def flood(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """More requests or connections than may be, at a time or one behind another; a further client is answered."""
    kind = draw.choice(("requests", "texts", "connections", "pipeline"))
    count = {"requests": 150, "texts": 60, "connections": 1500, "pipeline": 60}[kind]

    def act() -> tuple[int | None, str]:
        if kind == "connections":
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    stack.enter_context(server.connect())
                return server.exchange(post("/v1/answer", ASKED))[:2]
        if kind == "pipeline":
            return server.exchange(post("/v1/answer", ASKED).replace(b"Connection: close\r\n", b"") * count)[:2]
        body = post("/v1/answer", ASKED) if kind == "requests" else post("/v1/completions", TEXT | {"max_tokens": 40})
        with ThreadPoolExecutor(count) as pool:
            replies = list(pool.map(lambda _: server.exchange(body)[:2], range(count)))
        bad = [reply for reply in replies if reply[0] not in (200, 503)]
        return bad[0] if bad else replies[-1]

    return f"flood of {count} {kind}", act
