"""The web application of an engine: OpenAI's protocol, questions with options, health and figures."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from mm_adapter import __version__
from mm_adapter.core.errors import UserError
from mm_adapter.serving.answer_routes import answer_routes
from mm_adapter.serving.engine import Engine
from mm_adapter.serving.exchange import Gone
from mm_adapter.serving.guard import Guard
from mm_adapter.serving.limits import Overloaded, UnknownModel
from mm_adapter.serving.metrics_text import CONTENT_TYPE, metrics_text
from mm_adapter.serving.openai_routes import openai_routes
from mm_adapter.serving.page_routes import OPEN, page_routes
from mm_adapter.serving.preparing import Preparation
from mm_adapter.serving.prompts import ContextFull, taken
from mm_adapter.serving.replies import OWN_ERROR, error, field_error
from mm_adapter.serving.reply_schemas import ERRORS, HealthReply, ModelReply, ModelsReply, Takes

LOCAL = frozenset(("localhost", "127.0.0.1", "[::1]"))


def make_app(engine: Engine, token: str | None = None, hosts: frozenset[str] | None = LOCAL) -> Guard:
    """Return the application, to be run by uvicorn or another ASGI server.

    Its life begins and ends the engine's: at the end every request that was accepted is computed.

    Args:
        engine: not started yet.
        token: that requests must bring; None for none.
        hosts: names by which the server may be called; None for any. With a token any will do.
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        with engine:
            yield

    # Pages that explain the protocol would be fetched from elsewhere; /openapi.json describes it.
    about: dict[str, Any] = {"title": "mm-adapter", "version": __version__, "responses": ERRORS}
    app = FastAPI(**about, lifespan=life, docs_url=None, redoc_url=None, redirect_slashes=False)
    preparation = Preparation(engine)
    guard = Guard(app, engine.limits, token, None if token else hosts, OPEN)
    _add_errors(app)
    app.include_router(openai_routes(preparation))
    app.include_router(answer_routes(preparation))
    app.include_router(page_routes(preparation))
    started = int(time.time())

    @app.get("/health", responses={200: {"model": HealthReply}, 503: {"model": HealthReply}})
    async def health() -> JSONResponse:
        """Say whether requests are computed, and how many wait."""
        status = {"status": "ok" if engine.alive else "ending", "waiting": engine.waiting, "rows": engine.rows}
        return JSONResponse(status, 200 if engine.alive else 503)

    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Counters."}
    }

    @app.get("/metrics", response_class=Response, responses=text)
    async def metrics() -> Response:
        """Return counters in Prometheus' text format."""
        return PlainTextResponse(metrics_text(engine, guard), media_type=CONTENT_TYPE)

    @app.get("/v1/models", tags=["OpenAI"])
    async def models() -> ModelsReply:
        """List the adapters and the base model."""
        return ModelsReply(object="list", data=[_model(name) for name in engine.models])

    @app.get("/v1/models/{name}", tags=["OpenAI"])
    async def model(name: str) -> ModelReply:
        """Return one of them."""
        engine.model(name)
        return _model(name)

    def _model(name: str) -> ModelReply:
        told: dict[str, Any] = {"id": name, "object": "model", "created": started, "owned_by": "mm-adapter"}
        return ModelReply(**told, takes=Takes(**taken(engine.models[name])))

    return guard


def _add_errors(app: FastAPI) -> None:
    """Have every error told in the protocol's shape."""

    @app.exception_handler(UserError)
    async def of_user(_: Request, reason: UserError) -> JSONResponse:
        if isinstance(reason, Overloaded):
            return JSONResponse(error(str(reason), 503), 503, {"Retry-After": str(reason.retry_after)})
        if isinstance(reason, UnknownModel):
            return JSONResponse(error(str(reason), 404, "model", "model_not_found"), 404)
        code = "context_length_exceeded" if isinstance(reason, ContextFull) else None
        return JSONResponse(error(str(reason), 400, None, code), 400)

    @app.exception_handler(RequestValidationError)
    async def of_fields(_: Request, reason: RequestValidationError) -> JSONResponse:
        where, text = field_error(reason.errors())
        return JSONResponse(error(text, 400, where or None), 400)

    @app.exception_handler(HTTPException)
    async def of_protocol(request: Request, reason: HTTPException) -> JSONResponse:
        asked = f"{request.method[:20]} {request.url.path[:80]}"
        told = {404: f"there is no route for {asked}", 405: f"{asked}: the route takes another method"}
        said = told.get(reason.status_code, str(reason.detail))
        text = f"{said}; /openapi.json describes every route."
        return JSONResponse(error(text, reason.status_code), reason.status_code, reason.headers)

    @app.exception_handler(Gone)
    async def of_left(_: Request, __: Gone) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def of_program(_: Request, reason: Exception) -> JSONResponse:
        return JSONResponse(error(OWN_ERROR, 500), 500)
