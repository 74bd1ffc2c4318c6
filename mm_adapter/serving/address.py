"""Where a server listens, and who may ask it."""

import os
import socket

from mm_adapter.core.errors import UserError

TOKEN = "MM_ADAPTER_TOKEN"
"""The environment variable with the token that requests must bring."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def token_of_environment() -> str | None:
    """Return the token; None where none is set."""
    return os.environ.get(TOKEN)


def check_address(host: str, token: str | None) -> None:
    """Refuse to be reached from other machines without a token.

    Raises:
        UserError: the host is not this machine alone, and there is no token; or the token can be in no header.
    """
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise UserError(f"{TOKEN} must be printable ASCII without spaces around it; set another one.")
    if host not in _LOOPBACK and token is None:
        raise UserError(
            f"--host {host} lets other machines ask, and {TOKEN} is not set; set it to a secret that requests must "
            "bring, or serve on localhost."
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; who connects before the server runs is served when it does.

    Args:
        port: 0 for one that is free.

    Raises:
        UserError: the address is not this machine's, or is in use.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on --host {host} --port {port} ({reason}); name others.") from None
