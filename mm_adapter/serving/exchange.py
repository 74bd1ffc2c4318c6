"""Between a web server's loop and the engine's thread: results that are awaited, texts that come piece by piece."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request

from mm_adapter.serving.engine import Engine
from mm_adapter.serving.jobs import Job, Piece, WriteJob


class Gone(Exception):
    """The client has left before its answer."""


async def ask(engine: Engine, request: Request, jobs: Sequence[Job]) -> list[Any]:
    """Return the results of jobs, in their order.

    Raises:
        UserError: what a job raises, or the queue is full.
        Gone: nobody waits any more; nothing further is computed.
    """
    futures = [asyncio.wrap_future(future) for future in engine.submit(jobs)]
    results = asyncio.gather(*futures)
    gone = asyncio.create_task(_gone(request))
    try:
        either: list[asyncio.Future[Any]] = [results, gone]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            raise Gone
        return list(results.result())
    finally:
        _give_up(jobs)
        for waited in (results, gone):
            waited.cancel()
        await asyncio.gather(gone, *futures, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Streamed:
    """The pieces of several texts, in the order in which they are written.

    Args:
        engine: that writes them.
        jobs: one a text; they are put into the queue at once, so that a full one is said before anything is sent.

    Raises:
        Overloaded: the queue is full.
    """

    def __init__(self, engine: Engine, jobs: Sequence[WriteJob]) -> None:
        self.jobs = jobs
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Queue[tuple[int, Piece | None]] = asyncio.Queue()
        for index, job in enumerate(jobs):
            job.on_piece = partial(self._hand_over, index)
        for index, future in enumerate(engine.submit(jobs)):
            future.add_done_callback(partial(self._end, index))

    def _end(self, index: int, _: object) -> None:
        self._hand_over(index, None)

    def _hand_over(self, index: int, piece: Piece | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who listens
            self._loop.call_soon_threadsafe(self._came.put_nowait, (index, piece))

    async def pieces(self) -> AsyncIterator[tuple[int, Piece | None]]:
        """Yield the number of a text with its next piece; None where it is at its end, see its job's future.

        When nobody takes pieces any more, nothing further is written.
        """
        try:
            open_texts = len(self.jobs)
            while open_texts:
                index, piece = await self._came.get()
                open_texts -= piece is None
                yield index, piece
        finally:
            _give_up(self.jobs)


def _give_up(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.given_up = True
        job.future.cancel()  # where it still waits
