"""``/v1/answer`` and ``/v1/answer/batch``: questions with options or without."""

import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from mm_adapter.core.errors import UserError
from mm_adapter.inference.prompt_look import PromptLook
from mm_adapter.serving.exchange import Streamed, ask
from mm_adapter.serving.jobs import Answered, Job, WriteJob, Written
from mm_adapter.serving.preparing import Preparation
from mm_adapter.serving.prompts import question_job
from mm_adapter.serving.replies import OWN_ERROR, error, event
from mm_adapter.serving.reply_schemas import text_or_stream
from mm_adapter.serving.schemas import (
    AnswerReply,
    AnswerRequest,
    AttentionReply,
    BatchReply,
    BatchRequest,
    StreamedAnswerRequest,
    TimingReply,
    ViewReply,
)


def answer_routes(preparation: Preparation) -> APIRouter:
    """Return the routes of questions."""
    router = APIRouter(prefix="/v1", tags=["Questions"])
    engine = preparation.engine

    def job(name: str, asked: AnswerRequest) -> Job:
        picture, context = preparation.picture(asked.image), asked.context or ""
        more = (context, picture, asked.max_new_tokens, asked.scale, bool(asked.attention))
        return question_job(name, engine.model(name), engine.limits, asked.question, asked.choices, *more)

    @router.post("/answer", response_model=AnswerReply, responses=text_or_stream(AnswerReply))
    async def answer(asked: StreamedAnswerRequest, request: Request) -> Any:
        """Answer a question by the likeliest of its options, or freely, then also as a stream of its pieces."""
        name = asked.model or preparation.default_model
        one = await preparation.run(lambda: job(name, asked))
        if asked.stream and isinstance(one, WriteJob):
            return StreamingResponse(_events(name, Streamed(engine, [one])), media_type="text/event-stream")
        [found] = await ask(engine, request, [one])
        return _answer(name, found)

    @router.post("/answer/batch")
    async def answer_batch(asked: BatchRequest, request: Request) -> BatchReply:
        """Answer many questions; one that cannot be asked is named, and none is answered then."""
        preparation.check_count(len(asked.questions))
        names = [question.model or asked.model or preparation.default_model for question in asked.questions]

        def prepare() -> list[Job]:
            jobs = []
            for number, (name, question) in enumerate(zip(names, asked.questions, strict=True)):
                try:
                    jobs.append(job(name, question))
                except UserError as reason:
                    raise UserError(f"question {number}: {reason}") from reason
            return jobs

        found = await ask(engine, request, await preparation.run(prepare))
        return BatchReply(answers=[_answer(name, answered) for name, answered in zip(names, found, strict=True)])

    return router


async def _events(name: str, streamed: Streamed) -> AsyncIterator[bytes]:
    """Yield the pieces of a text as they are written, ``{"text": ...}``, then the whole answer."""
    async for _, piece in streamed.pieces():
        if piece is not None and piece.text:
            yield event({"text": piece.text})
    failure = streamed.jobs[0].future.exception()
    if failure is None:
        yield event(_answer(name, streamed.jobs[0].future.result()).model_dump())
        yield event("[DONE]")
    elif isinstance(failure, UserError):
        yield event(error(str(failure), 503))
    else:
        logging.getLogger("uvicorn.error").error("a text could not be written", exc_info=failure)
        yield event(error(OWN_ERROR, 500))


def _answer(name: str, found: Answered | Written) -> AnswerReply:
    timing = TimingReply(waited=found.timing.waited, computed=found.timing.computed)
    attention = None if found.attention is None else _attention(found.attention)
    more: dict[str, Any] = {"model": name, "timing": timing, "attention": attention}
    if isinstance(found, Written):
        return AnswerReply(choice=found.text.strip(), index=None, probabilities=[], explanation=None, **more)
    answer = found.answer
    told: dict[str, Any] = {"index": answer.choice, "probabilities": list(answer.probabilities)}
    return AnswerReply(choice=answer.text, explanation=answer.explanation or None, **told, **more)


def _attention(found: PromptLook) -> AttentionReply:
    return AttentionReply(
        first_layer=found.first_layer,
        ratios=found.ratios.tolist(),
        prompts=found.prompts.tolist(),
        pieces=None if found.pieces is None else found.pieces.tolist(),
        picture=[ViewReply(view=one.view, box=list(one.box), shares=one.shares.tolist()) for one in found.picture],
    )
