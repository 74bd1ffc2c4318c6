"""What is sent back, as it is described in /openapi.json: replies of OpenAI's protocol, and errors."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str = Field(description="What, where, and what to do.")
    type: str
    param: str | None = Field(description="The field that is meant.")
    code: str | None


class ErrorReply(BaseModel):
    """Every error of the server."""

    error: ErrorDetail


def _said(description: str, **more: Any) -> dict[str, Any]:
    return {"model": ErrorReply, "description": description, **more}


_RETRY = {"Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}}
ERRORS: dict[int | str, dict[str, Any]] = {
    400: _said("A field, a text or a picture cannot be taken, or there is no room for it; the reason says which."),
    401: _said("The token is missing or wrong."),
    404: _said("There is no such model or route."),
    408: _said("The request did not arrive in its time."),
    413: _said("The body is too large."),
    415: _said("The body is no JSON by its Content-Type."),
    421: _said("The server was called by another name than its own, and has no token."),
    503: _said("More waits than may, the request took too long, or the server ends.", headers=_RETRY),
    "4XX": _said("The request is none that can be answered."),
}
"""Status -> what it means, of every route."""


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Reply(BaseModel):
    id: str
    created: int = Field(description="Seconds since 1970.")
    model: str
    usage: Usage


class ChatText(BaseModel):
    """What was answered."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One of ``n`` texts."""

    index: int
    message: ChatText
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatReply(_Reply):
    """``/v1/chat/completions`` without ``stream``."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class CompletionChoice(BaseModel):
    """A text on one of the prompts."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class CompletionReply(_Reply):
    """``/v1/completions`` without ``stream``."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class Takes(BaseModel):
    """What may be in a request to a model."""

    image: bool
    gate_scale: bool
    attention: bool


class ModelReply(BaseModel):
    """An adapter, or the base model."""

    id: str = Field(description="What a request names as its model.")
    object: Literal["model"]
    created: int
    owned_by: str
    takes: Takes


class ModelsReply(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[ModelReply]


class HealthReply(BaseModel):
    """Whether requests are computed, how many wait, and how many texts are being written."""

    status: Literal["ok", "ending"]
    waiting: int
    rows: int


def text_or_stream(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the description of a reply that is an object, or with ``stream`` its pieces as server-sent events."""
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {200: {"model": model, "description": "The texts, or with stream their pieces.", "content": stream}}
