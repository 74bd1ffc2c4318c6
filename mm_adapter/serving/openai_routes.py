"""``/v1/chat/completions`` and ``/v1/completions``."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from mm_adapter.core.errors import UserError
from mm_adapter.inference.decoding import TokenScore
from mm_adapter.serving.exchange import Streamed, ask
from mm_adapter.serving.jobs import Piece, WriteJob, Written
from mm_adapter.serving.preparing import Preparation
from mm_adapter.serving.prompts import chat_prompt, text_prompt, writing_jobs
from mm_adapter.serving.replies import OWN_ERROR, chat_scores, completion_scores, error, event, head, usage
from mm_adapter.serving.reply_schemas import ChatReply, CompletionReply, text_or_stream
from mm_adapter.serving.schemas import ChatRequest, CompletionRequest

_CHAT_LENGTH, _COMPLETION_LENGTH = 256, 16  # tokens, unless told otherwise: those of `generate`, and OpenAI's


def openai_routes(preparation: Preparation) -> APIRouter:
    """Return the routes of OpenAI's protocol."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    engine, limits = preparation.engine, preparation.engine.limits

    @router.post("/chat/completions", responses=text_or_stream(ChatReply))
    async def chat(asked: ChatRequest, request: Request) -> Response:
        """Answer a chat."""
        model = engine.model(asked.model)

        def prepare() -> list[WriteJob]:
            limit = asked.max_completion_tokens or asked.max_tokens or min(_CHAT_LENGTH, limits.new_tokens)
            writing = asked.writing(limit, (asked.top_logprobs or 0) if asked.logprobs else None)
            prompt = chat_prompt(asked.model, model, limits, [message.said() for message in asked.messages])
            return writing_jobs(asked.model, model, limits, prompt, writing, preparation.picture(asked.picture))

        jobs = await preparation.run(prepare)
        texts = preparation.token_texts(asked.model)

        def scored(scores: Sequence[TokenScore]) -> Any:
            return chat_scores(texts, scores) if asked.logprobs else None

        if asked.stream:
            first = head("chat.completion.chunk", "chatcmpl", asked.model)

            def chunk(index: int, delta: dict[str, Any], scores: Any, finished: str | None) -> dict[str, Any]:
                choice = {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finished}
                return {**first, "choices": [choice]}

            def part(index: int, piece: Piece) -> dict[str, Any]:
                return chunk(index, {"content": piece.text}, scored(piece.scores), None)

            opening = [chunk(n, {"role": "assistant", "content": ""}, None, None) for n in range(len(jobs))]
            streamed = Streamed(engine, jobs)
            ended = asked.with_usage, first, lambda index, reason: chunk(index, {}, None, reason)
            return StreamingResponse(_events(streamed, opening, part, *ended), media_type="text/event-stream")
        written: list[Written] = await ask(engine, request, jobs)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text.text, "refusal": None},
                "logprobs": scored(text.scores),
                "finish_reason": text.finished,
            }
            for index, text in enumerate(written)
        ]
        said = head("chat.completion", "chatcmpl", asked.model)
        return JSONResponse({**said, "choices": choices, "usage": _usage(jobs[:1], written)})

    @router.post("/completions", responses=text_or_stream(CompletionReply))
    async def complete(asked: CompletionRequest, request: Request) -> Response:
        """Continue prompts as they stand."""
        model, tokenizer = engine.model(asked.model), engine.model(asked.model).tokenizer
        preparation.check_count(len(asked.prompts) * (asked.n or 1))

        def prepare() -> list[tuple[str, list[WriteJob]]]:
            limit = _COMPLETION_LENGTH if asked.max_tokens is None else asked.max_tokens
            writing = asked.writing(limit, asked.logprobs, bool(asked.echo) and asked.logprobs is not None)
            found = []
            for prompt in asked.prompts:
                ids = text_prompt(model, limits, prompt)
                shown = prompt if isinstance(prompt, str) else tokenizer.decode(ids) if asked.echo else ""
                found.append((shown, writing_jobs(asked.model, model, limits, ids, writing)))
            return found

        prepared = await preparation.run(prepare)
        jobs = [job for _, group in prepared for job in group]
        shown = [text if asked.echo else "" for text, group in prepared for _ in group]
        texts = preparation.token_texts(asked.model)

        def scored(scores: Sequence[TokenScore], first: int | None, offset: int) -> Any:
            return None if asked.logprobs is None else completion_scores(texts, scores, first, offset)

        if asked.stream:
            first = head("text_completion", "cmpl", asked.model)
            lengths = [0] * len(jobs)

            def chunk(index: int, text: str, scores: Any, finished: str | None) -> dict[str, Any]:
                choice = {"index": index, "text": text, "logprobs": scores, "finish_reason": finished}
                return {**first, "choices": [choice]}

            def part(index: int, piece: Piece) -> dict[str, Any]:
                offset = lengths[index]
                lengths[index] += len(piece.text)
                return chunk(index, piece.text, scored(piece.scores, None, offset), None)

            opening = [chunk(index, text, None, None) for index, text in enumerate(shown) if text]
            streamed = Streamed(engine, jobs)
            ended = asked.with_usage, first, lambda index, reason: chunk(index, "", None, reason)
            return StreamingResponse(_events(streamed, opening, part, *ended), media_type="text/event-stream")
        written: list[Written] = await ask(engine, request, jobs)
        choices = []
        for index, (job, text) in enumerate(zip(jobs, written, strict=True)):
            scores = scored((*text.prompt_scores, *text.scores), job.prompt[0] if asked.echo else None, 0)
            said = {"index": index, "text": shown[index] + text.text, "logprobs": scores}
            choices.append({**said, "finish_reason": text.finished})
        prompts = [group[0] for _, group in prepared]
        said = head("text_completion", "cmpl", asked.model)
        return JSONResponse({**said, "choices": choices, "usage": _usage(prompts, written)})

    return router


def _usage(prompts: Sequence[WriteJob], written: Sequence[Written]) -> dict[str, int]:
    return usage(sum(len(job.prompt) for job in prompts), sum(len(text.ids) for text in written))


async def _events(
    streamed: Streamed,
    opening: Sequence[dict[str, Any]],
    part: Callable[[int, Piece], dict[str, Any]],
    with_usage: bool,
    first: dict[str, Any],
    last: Callable[[int, str], dict[str, Any]],
) -> AsyncIterator[bytes]:
    """Yield the events of a stream: what opens it, every piece, how each text ended, and that it is at its end."""
    for chunk in opening:
        yield event(chunk)
    async for index, piece in streamed.pieces():
        if piece is not None:
            yield event(part(index, piece))
            continue
        failure = streamed.jobs[index].future.exception()
        if failure is not None:
            # The status has been sent already; clients of the protocol look for this.
            if isinstance(failure, UserError):
                yield event(error(str(failure), 503))
            else:
                logging.getLogger("uvicorn.error").error("a text could not be written", exc_info=failure)
                yield event(error(OWN_ERROR, 500))
            return
        yield event(last(index, streamed.jobs[index].future.result().finished))
    if with_usage:
        written = [job.future.result() for job in streamed.jobs]
        prompts = list({id(job.prompt): job for job in streamed.jobs}.values())
        yield event({**first, "choices": [], "usage": _usage(prompts, written)})
    yield event("[DONE]")
