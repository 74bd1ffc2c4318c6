"""From a request to jobs, beside the loop that serves all: reading pictures and texts takes time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from mm_adapter.core.errors import UserError
from mm_adapter.serving.engine import BASE, Engine
from mm_adapter.serving.jobs import Picture
from mm_adapter.serving.pictures import read_picture
from mm_adapter.serving.token_text import TokenTexts

Result = TypeVar("Result")

_TOGETHER = 4  # requests whose pictures may be decoded at a time: a large one takes tens of megabytes


class Preparation:
    """What the routes share.

    Args:
        engine: that the jobs are for.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._room = asyncio.Semaphore(_TOGETHER)
        self._texts = {name: TokenTexts(model.tokenizer) for name, model in engine.models.items()}

    async def run(self, prepare: Callable[[], Result]) -> Result:
        """Return what ``prepare`` returns; it runs in another thread."""
        async with self._room:
            return await run_in_threadpool(prepare)

    def picture(self, uri: str | None) -> Picture | None:
        """Return the picture in a data URI; None where there is none."""
        return None if uri is None else read_picture(uri, self.engine.limits.pixels)

    def token_texts(self, name: str) -> TokenTexts:
        """Return how single tokens of a model read."""
        return self._texts[name]

    def check_count(self, count: int) -> None:
        """Refuse a request of too many parts.

        Raises:
            UserError: there are more than may be.
        """
        if count > self.engine.limits.batch:
            raise UserError(f"{count} are asked for in one request; at most {self.engine.limits.batch} are possible.")

    @property
    def default_model(self) -> str:
        """The first adapter; the base model where there is none."""
        return next((name for name in self.engine.models if name != BASE), BASE)
