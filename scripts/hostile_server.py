"""A server under hostile requests: raw bytes over sockets, one outcome for each, and whether it is well afterwards."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hostile_process import Hostile, Outcome, peak, reset_peak
from served import ServerProcess

_PATIENCE = 20.0
_QUESTION = {"model": "letters", "question": "Which?", "choices": ["one", "other"]}


class HostileServer:
    """Asks a server process, and looks after it.

    Args:
        process: of the server.
        log: file of what it says.
    """

    def __init__(self, process: ServerProcess, log: Path) -> None:
        self._process, self._log = process, log
        self.port = int(process.url.rsplit(":", 1)[1])

    def connect(self) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE)

    def outcome(self, act: Callable[[], tuple[int | None, str]]) -> Outcome:
        """Call what asks; return status and body with what became of the server: time, memory, tracebacks, health."""
        told = self._log.stat().st_size
        reset_peak(self._process.pid)
        began = time.monotonic()
        failure, status, said = "", None, ""
        try:
            status, said = act()
        except (OSError, http.client.HTTPException) as error:
            failure = f"no reply: {type(error).__name__}: {error}"
        seconds = time.monotonic() - began
        if self._process.poll() is None:
            failure = failure or self._ill()
            most = peak(self._process.pid)
        else:
            failure, most = "the server has died", 0
        with open(self._log, "rb") as file:
            file.seek(told)
            new = file.read().decode(errors="replace")
        if "Traceback" in new:
            failure = new[new.index("Traceback") :][-2500:]
        return Outcome(status, said, None, seconds, most, failure)

    def _ill(self) -> str:
        """Return what is wrong with a server that nobody asks any more: it does not answer, or still works."""
        state: Any = None
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                state = json.loads(self.exchange(request("GET", "/health"))[1])
                if state == {"status": "ok", "waiting": 0, "rows": 0}:
                    status, body, _ = self.exchange(post("/v1/answer", _QUESTION))
                    return "" if status == 200 else f"does not answer any more: {status} {body[:200]}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                state = error
            time.sleep(0.05)
        return f"the server is not well afterwards: {state!r}"

    def exchange(
        self, content: bytes | Iterable[bytes], half_close: bool = False, method: str = "POST"
    ) -> tuple[int, str, int]:
        """Send bytes, perhaps some at a time; return status and body of the reply, and how many bytes came after it.

        A reply that comes before all is sent ends the sending.
        """
        with self.connect() as client:
            for part in [content] if isinstance(content, bytes) else content:
                try:
                    client.sendall(part)
                except (BrokenPipeError, ConnectionResetError):
                    break
                client.settimeout(0)
                with contextlib.suppress(OSError):
                    if client.recv(1, socket.MSG_PEEK) is not None:
                        client.settimeout(_PATIENCE)
                        break
                client.settimeout(_PATIENCE)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            reply = http.client.HTTPResponse(client, method=method)
            reply.begin()
            body = reply.read()
            more = b""
            if reply.getheader("Retry-After") is None and reply.status == 503:
                return 503, "503 without Retry-After", 0
            client.settimeout(0.3)
            with contextlib.suppress(OSError):
                while block := client.recv(1 << 16):
                    more += block
            return reply.status, body.decode(errors="replace"), more.count(b"HTTP/1.")


def request(method: str, path: str, body: bytes = b"", headers: Iterable[str] = (), host: str = "localhost") -> bytes:
    """Return a request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body or method in ("POST", "PUT", "PATCH"):
        lines += [f"Content-Length: {len(body)}"]
        lines += (
            [] if any(line.lower().startswith("content-type") for line in lines) else ["Content-Type: application/json"]
        )
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def post(path: str, value: Any) -> bytes:
    """Return a request whose body is JSON."""
    return request("POST", path, json.dumps(value).encode())


def well_said(found: Outcome, right: Callable[[str], str] | None = None, refused: bool = False) -> str:
    """Return what is wrong with a reply: an error without a reason, one of the server's own, an answer that is none."""
    if found.status is None:
        return ""
    if found.status in (200, 204):
        if refused:
            return f"was taken: {found.said[:200]}"
        return right(found.said) if right else ""
    if not (400 <= found.status < 500 or found.status == 503):
        return f"status {found.status}: {found.said[:200]}"
    try:
        message = json.loads(found.said)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"status {found.status} without a reason: {found.said[:200]!r}"
    return "" if 10 < len(message) < 2000 else f"status {found.status} with the reason {message[:200]!r}"


def answered(body: str) -> str:
    """Return what is wrong with the reply to a question with options."""
    value = json.loads(body)
    good = value["choice"] in ("one", "other") and abs(sum(value["probabilities"]) - 1) < 1e-4
    return "" if good else f"answered {body[:200]}"


def tools(server: HostileServer) -> dict[str, Any]:
    """Return ``ask`` and ``post``, by which pictures and texts are sent to the server as well."""

    def send(name: str, path: str, body: dict[str, Any], right: Any, refused: bool, group: str) -> Hostile:
        def act() -> Outcome:
            return server.outcome(lambda: server.exchange(post(path, body))[:2])

        return Hostile(f"{name}, {path}", "http", act, lambda found: well_said(found, right, refused), group=group)

    def ask(name: str, changes: dict[str, Any], refused: bool, group: str = "http") -> Hostile:
        model = "sees" if "image" in changes else "letters"
        return send(name, "/v1/answer", _QUESTION | {"model": model} | changes, answered, refused, group)

    def told(name: str, path: str, body: dict[str, Any]) -> Hostile:
        return send(name, path, body, written, False, "http")

    return {"ask": ask, "post": told}


def written(body: str) -> str:
    """Return what is wrong with the reply of OpenAI's routes."""
    value = json.loads(body)
    texts = [choice.get("text", choice.get("message", {}).get("content")) for choice in value["choices"]]
    return "" if texts and all(isinstance(text, str) for text in texts) else f"wrote {body[:200]}"
