"""Hostile requests: huge bodies, wrong types in every field, lies about pictures, JSON that is none, other methods."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from hostile_pictures import encoded, noise
from hostile_process import Hostile
from hostile_server import HostileServer, answered, post, request, well_said
from hostile_wire import ASKED, BODY, HEAD, TEXT, Act, chunks, flood, left, protocol, slow, smuggled

_CHAT: dict[str, Any] = {"model": "talks", "messages": [{"role": "user", "content": "Well?"}], "max_tokens": 2}
_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    10**30,
    1.5,
    "",
    "x",
    "\0",
    [],
    [[]],
    {},
    {"a": 1},
    [None],
    ["x"] * 99,
)


def _huge(draw: Random, server: HostileServer) -> tuple[str, Act]:
    kind = draw.choice(("claimed", "sent", "chunked", "field", "header", "headers", "path", "blank"))
    size = draw.choice((33 << 20, 70 << 20))
    content: Any = {
        "claimed": lambda: HEAD + b"Content-Length: %d\r\n\r\n{" % draw.choice((10**11, 10**18, 10**30)),
        "sent": lambda: request("POST", "/v1/answer", b"x" * size),
        "field": lambda: post("/v1/answer", ASKED | {"question": "x" * (30 << 20)}),
        "blank": lambda: request("POST", "/v1/answer", b" " * (31 << 20) + BODY),
        "header": lambda: request("GET", "/health", headers=[f"X: {'x' * draw.choice((70_000, 3_000_000))}"]),
        "headers": lambda: request("GET", "/health", headers=[f"X-{number}: 1" for number in range(20_000)]),
        "path": lambda: request("GET", "/v1/models/" + "x" * draw.choice((9_000, 200_000))),
        "chunked": lambda: _chunked(size),
    }[kind]()
    return f"huge {kind}", lambda: server.exchange(content, method="GET" if kind in ("header", "path") else "POST")[:2]


def _chunked(size: int) -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for _ in range(size >> 16):
        yield b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    yield b"0\r\n\r\n"


def _types(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """A wrong type or value in a field, known or not."""
    path, body, more = draw.choice(
        (
            ("/v1/answer", ASKED, ("context", "image", "max_new_tokens", "extra")),
            ("/v1/answer/batch", {"questions": [ASKED]}, ("model",)),
            (
                "/v1/chat/completions",
                _CHAT,
                ("temperature", "top_p", "stop", "seed", "n", "stream", "logprobs", "tools"),
            ),
            ("/v1/completions", TEXT, ("temperature", "top_k", "stop", "seed", "n", "echo", "logprobs", "suffix")),
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
    return f"numbers {kind} {str(changes)[:50]}", lambda: server.exchange(post("/v1/completions", TEXT | changes))[:2]


def _json(draw: Random, server: HostileServer) -> tuple[str, Act]:
    """Bodies that are no JSON, or JSON that no program should meet."""
    body = draw.choice(
        (
            *(
                b"[" * 100_000,
                b'{"a":' * 100_000,
                b"",
                b"null",
                b"3",
                b'"x"',
                b"{" + BODY,
                BODY[:-1],
                b"\xff\xfe" + BODY,
            ),
            *(json.dumps(ASKED).encode("utf-16"), json.dumps(ASKED).encode("utf-32"), b"\xef\xbb\xbf" + BODY),
            *(b'{"question": NaN}', b'{"max_new_tokens": ' + b"9" * 10_000 + b"}", b'{"question": "\\ud800"}'),
            *(b'{"question": "\xed\xa0\x80"}', b'{"question":"a","question":"b","choices":["one","other"]}'),
            *(b'{"choices": [' + b'"a",' * 500_000 + b'"a"]}', b'{"a": 1,' * 3 + b"}", b"\0" * 1000, b"//\n" + BODY),
            *(b'{"__proto__": {"a": 1}, "question": "a"}', b'{"\\ud800": 1, "question": "a"}', b"a=b&c=d"),
        )
    )
    kind = draw.choice(
        ("application/json", "application/json; charset=utf-16", "text/plain", "multipart/form-data", "x")
    )
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
            *(
                f"data:image/png;length=9;base64,{png}",
                f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}",
            ),
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
            *(
                "/v1/answer",
                "/v1/chat/completions",
                "/health",
                "/v1/../etc/passwd",
                "//v1/answer",
                "/%2e%2e/%2e%2e/etc",
            ),
            *("/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/..%2f..", "/?" + "a=b&" * 5000, "/v1/answer/", "/%"),
            *(
                "http://localhost/v1/models",
                "http://evil.example/v1/models",
                "/v1/models/%F0%9F%98%80",
                "/openapi.json",
            ),
        )
    )

    def act() -> tuple[int | None, str]:
        status, body, _ = server.exchange(
            request(method, path, b"{}" if method in ("PUT", "PATCH") else b""), method=method
        )
        reason = json.dumps({"error": {"message": "no body belongs to the reply to HEAD"}})
        return status, reason if method == "HEAD" and not body else body

    return f"{method} {path[:40]}", act


FORMS = (
    *(slow, _huge, _types, _numbers, _json, _uri, _method, smuggled, left, chunks, protocol),
    *(flood, _types, _uri, _json, _types, _method),
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
    texts = TEXT | {"prompt": ["Once upon a time. " * 20] * 16, "max_tokens": 30}

    def both() -> tuple[int | None, str]:
        status, said, _ = server.exchange(post("/v1/completions", texts))
        return server.exchange(post("/v1/answer", asked))[:2] if status == 200 else (status, said)

    return [
        Hostile(
            "both", "http", lambda: server.outcome(both), lambda found: well_said(found, answered, False), group="http"
        )
    ]
