"""What stands before every request: who asks, how much is sent and how slowly, how many are here already."""

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections import Counter, defaultdict
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mm_adapter.serving.limits import Limits
from mm_adapter.serving.replies import error

_BODIES = 8  # largest bodies that are held at a time, together
LINGER = 3.0
"""Seconds that a client may go on sending what nobody reads: a connection that is closed under it would be reset."""
_HEALTH = "/health"  # needs no token: whoever watches the machine asks it


class Guard:
    """Refuses before anything is read or parsed: a wrong token, a body too large or too slow, more than can be held.

    Args:
        app: what requests go on to.
        limits: of the server.
        token: that requests must bring; None for none.
        hosts: names by which the server may be called; None for any. Without a token only its own: a page of another
            site could otherwise make a browser ask it by a name that points here.
        open_paths: that need no token, besides ``/health``.

    Attributes:
        answered: requests by path and status.
        seconds: that they took, by path.
        held: bytes of bodies of requests that are not answered yet.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        token: str | None,
        hosts: frozenset[str] | None,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        self.app, self.limits, self.token, self.hosts = app, limits, token, hosts
        self.open_paths = open_paths | {_HEALTH}
        self.answered: Counter[tuple[str, int]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.present = self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, told = time.monotonic(), [500]

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                told[0] = message["status"]
            await send(message)

        self.present += 1
        try:
            await self._admit(scope, receive, noted)
        except Exception:
            # It has been answered with 500; raised further, it would also cut the connection behind that answer.
            logging.getLogger("uvicorn.error").exception("an error of the server itself")
        finally:
            self.present -= 1
            path = scope["route"].path if "route" in scope else "other"
            self.answered[path, told[0]] += 1
            self.seconds[path] += time.monotonic() - start

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(send, *refusal, _Body(receive))
            return
        claimed = headers.get(b"content-length", b"0")
        size = int(claimed) if claimed.isdigit() and len(claimed) < 20 else 0
        body = bytearray()
        source = _Body(receive)
        try:
            refusal = await self._take(source, body, size)
            if refusal is not None:
                await _refuse(send, *refusal, source)
            else:
                await self.app(scope, _replayed(bytes(body), receive), send)
        except _Left:
            return
        finally:
            self.held -= len(body)

    async def _take(self, source: "_Body", body: bytearray, claimed: int) -> tuple[int, str] | None:
        """Read a body; return status and reason where it is too large or too slow."""
        most = self.limits.body_bytes
        if claimed <= most:
            late = await self._read(source, body)
            if late is not None:
                return 408, f"the body did not arrive within {late:.3g} seconds ({len(body):,} bytes); send it at once."
        if max(claimed, len(body)) > most:
            return 413, f"the body is larger than {most:,} bytes; send less."
        if self.held > _BODIES * most:
            return 503, "many large requests are here at a time; ask again soon."
        return None

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Return status and reason where the headers are enough to say no."""
        if scope["http_version"] not in ("1.0", "1.1"):
            return 400, f"HTTP/{scope['http_version']} is spoken, which is no request of HTTP/1.1; send one that is."
        if b"transfer-encoding" in headers and b"content-length" in headers:
            return 400, "the body has a length and is in chunks as well, which contradict each other; send one of both."
        name = headers.get(b"host", b"").decode("latin-1").rsplit("@")[-1]
        name = name[: name.index("]") + 1] if "]" in name else name.partition(":")[0]
        if self.hosts is not None and name.lower() not in self.hosts:
            return 421, "the server is called by another name than its own; call it as localhost, or set a token."
        if self.token is not None and scope["path"] not in self.open_paths:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                return 401, "the token is missing or wrong; send the header Authorization: Bearer TOKEN."
        if self.present > self.limits.queue + self.limits.rows + 64:
            return 503, f"{self.present} requests are here already; ask again soon."
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json":
            return 415, "the body must be JSON; send the header Content-Type: application/json."
        return None

    async def _read(self, source: "_Body", body: bytearray) -> float | None:
        """Read the body, but no more than may be and one message beyond; return the seconds that it had, if it is late.

        A client that sends a byte now and then has no longer than one that sends nothing.
        """
        limits, began = self.limits, time.monotonic()
        while not source.ended and len(body) <= limits.body_bytes and self.held <= _BODIES * limits.body_bytes:
            seconds = min(limits.body_seconds, limits.body_pause + len(body) / limits.body_rate)
            try:
                part = await asyncio.wait_for(source.part(), max(0.0, began + seconds - time.monotonic()))
            except asyncio.TimeoutError:
                return seconds
            body += part
            self.held += len(part)
        return None


class _Body:
    """The body of a request as it comes.

    Args:
        receive: gives its messages.

    Attributes:
        ended: all of it has come.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self.ended = receive, False

    async def part(self) -> bytes:
        """Return what comes next.

        Raises:
            _Left: the client has left.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _Left
        self.ended = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def pass_over(self, seconds: float) -> None:
        """Read what is left without keeping it, until its end or a time."""
        with contextlib.suppress(asyncio.TimeoutError, _Left):
            await asyncio.wait_for(self._to_end(), seconds)

    async def _to_end(self) -> None:
        while not self.ended:
            await self.part()


class _Left(Exception):
    """The client has left before its request was whole."""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a source of messages that gives the body whole, then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _refuse(send: Send, status: int, message: str, body: _Body) -> None:
    """Answer with an error, and close the connection when the body has been sent, or soon."""
    content = json.dumps(error(message, status), ensure_ascii=False).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    headers += [(b"retry-after", b"1")] if status == 503 else []
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    # What was not read of the body would otherwise be taken for the next request.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    await body.pass_over(LINGER)
    await send({"type": "http.response.body", "body": b""})
