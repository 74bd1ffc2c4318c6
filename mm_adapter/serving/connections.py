"""Connections before they are requests: bytes that are none, heads that come too slowly, more than can be held."""

import asyncio
import json
import resource
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mm_adapter.serving.guard import LINGER
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.replies import error

_OWN_FILES = 128  # that a server has open besides connections


def most_connections(limits: Limits) -> int:
    """Return how many connections may be open: the bound of the server, or less where the system allows less."""
    return max(1, min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OWN_FILES))


class Connection(H11Protocol):
    """A client's connection; uvicorn makes one of each that is accepted.

    The same parser everywhere: uvicorn would take another one where it is installed, which reads doubtful headers
    otherwise. The application that it serves must have ``limits``.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits: Limits = self.config.app.limits  # type: ignore[union-attr]
        self._late: asyncio.TimerHandle | None = None
        self._heard = self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or say no where too many connections are open."""
        super().connection_made(transport)
        if len(self.connections) > most_connections(self._limits):
            self._refuse(503, f"{len(self.connections)} connections are open already; ask again soon.")
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; the head of a request has its time from its first byte on."""
        if self._refused:
            return  # read, so that the answer is not lost with a connection that is reset
        self._heard = True
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
            self._heard = False
        else:
            self._watch()

    def send_400_response(self, msg: str) -> None:
        """Say in the shape of all errors what is no HTTP."""
        reason = sys.exc_info()[1]
        status = 431 if getattr(reason, "error_status_hint", 400) == 431 else 400
        self._refuse(status, f"this is no request of HTTP/1.1 ({str(reason or msg)[:200]}); send one that is.")

    def _should_upgrade(self) -> bool:
        # A request to go on with another protocol may be passed over, and is.
        return False

    def _watch(self) -> None:
        if self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(self._limits.head_seconds, self._give_up)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if self._heard:
            seconds = self._limits.head_seconds
            self._refuse(408, f"the head of the request did not arrive within {seconds:g} seconds; send it at once.")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer with an error, where no answer was begun, and close the connection when its client has read it."""
        self._unwatch()
        if self._refused or self.transport.is_closing() or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        content = json.dumps(error(message, status), ensure_ascii=False).encode(errors="backslashreplace")
        headers = [("content-type", "application/json"), ("content-length", str(len(content))), ("connection", "close")]
        headers += [("retry-after", "1")] if status == 503 else []
        head = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
        for event in (head, h11.Data(content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self._refused = True
        if len(self.connections) > most_connections(self._limits) + _OWN_FILES // 4:
            self.transport.close()
        else:
            self.transport.write_eof()
            self.loop.call_later(LINGER, self.transport.close)
