"""A server that ends when every accepted request is answered."""

import contextlib
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator

import uvicorn

from mm_adapter.serving.address import check_address
from mm_adapter.serving.app import LOCAL, make_app
from mm_adapter.serving.connections import Connection
from mm_adapter.serving.engine import Engine

_BROWSABLE = {"0.0.0.0": "localhost", "::": "localhost"}


class Server(uvicorn.Server):
    """uvicorn's server, which ends by SIGTERM or Ctrl-C as a thing that was asked for.

    It stops listening, answers what was accepted, and returns; uvicorn itself would then die of the signal.
    """

    open_page = False
    """Open the page in the user's browser once requests are taken."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs, where this is the main thread's to do."""
        try:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # another thread runs it, and ends it by should_exit
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: object = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            addresses = [socket.getsockname() for server in self.servers for socket in server.sockets]
            for host, port in dict.fromkeys(address[:2] for address in addresses):
                print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr, flush=True)
            host, port = addresses[0][:2]
            page = f"http://{_BROWSABLE.get(host, f'[{host}]' if ':' in host else host)}:{port}/"
            print(f"ask on the page {page}", file=sys.stderr, flush=True)
            if self.open_page:
                # In a thread: some browsers of the terminal return only when they are closed.
                threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()


def make_server(engine: Engine, host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> Server:
    """Return the server of an engine; its ``run`` returns when it has ended.

    Args:
        engine: not started yet.
        host: address to listen on; without a token only this machine's own.
        port: 0 for one that is free.
        token: that requests must bring.

    Raises:
        UserError: other machines could ask without a token.
    """
    check_address(host, token)
    config = uvicorn.Config(
        make_app(engine, token, LOCAL),
        host,
        port,
        log_level="warning",
        access_log=False,
        server_header=False,
        http=Connection,
        ws="none",
        # Clients of Python drop a connection that was idle for five seconds; as long a time here would meet theirs.
        timeout_keep_alive=int(engine.limits.head_seconds) + 1,
        # Whoever does not read an answer must not keep the server from ending.
        timeout_graceful_shutdown=int(engine.limits.seconds) + 10,
    )
    return Server(config)
