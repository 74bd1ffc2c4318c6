"""What a server takes on, and how it says no."""

from dataclasses import dataclass, fields

from mm_adapter.core.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        queue: requests that may wait; one more is refused with ``Overloaded``.
        rows: texts that are written at a time.
        positions: of these rows together, each counted as the longest may become: their keys and values lie in memory.
        seconds: within which a request must be done, waiting included.
        tokens: of a prompt with what is written on it; never more than the model takes.
        new_tokens: that one request may ask for.
        characters: of a request's texts, together.
        pixels: of a picture.
        body_bytes: of a request's body.
        body_seconds: within which a body must have arrived.
        body_pause: seconds that a body may take whatever its size.
        body_rate: bytes a second with which it must come beyond these.
        head_seconds: within which the head of a request must have arrived, once a connection is open.
        connections: that may be open at a time, whether they ask or not.
        choices: texts that one request may ask for on the same prompt.
        batch: questions or prompts in one request.
    """

    queue: int = 256
    rows: int = 32
    positions: int = 65_536
    seconds: float = 120.0
    tokens: int = 4096
    new_tokens: int = 1024
    characters: int = 200_000
    pixels: int = 16_000_000
    body_bytes: int = 32 << 20
    body_seconds: float = 30.0
    body_pause: float = 5.0
    body_rate: int = 16 << 10
    head_seconds: float = 8.0
    connections: int = 1024
    choices: int = 8
    batch: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise UserError(f"{field.name} is {getattr(self, field.name)}; it must be over 0.")


class UnknownModel(UserError):
    """There is no adapter of that name."""


class Overloaded(UserError):
    """More waits than may wait, or a request took too long: it can be sent again later.

    Attributes:
        retry_after: seconds after which that is worth a try.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def late(seconds: float) -> Overloaded:
    """Return what to say of a request that took longer than it may."""
    return Overloaded(f"the request was not done within {seconds:g} seconds; ask for less, or again later.", 5)
