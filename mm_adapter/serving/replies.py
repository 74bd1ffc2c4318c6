"""What is sent back, in the shapes of OpenAI's protocol."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mm_adapter.inference.decoding import TokenScore
from mm_adapter.serving.token_text import TokenTexts

OWN_ERROR = "an error of the server itself; see its log."


def head(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """Return what every object of an answer begins with; the parts of a stream share it."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def usage(prompt: int, written: int) -> dict[str, int]:
    """Return how many tokens were read and written."""
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def event(value: Mapping[str, Any] | str) -> bytes:
    """Return an event of a stream (server-sent events)."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode(errors="backslashreplace")


def error(message: str, status: int, parameter: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error; ``message`` may hold anything."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "overloaded_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    shown = message.encode(errors="backslashreplace").decode()
    return {"error": {"message": shown, "type": kind, "param": parameter, "code": code}}


def field_error(found: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the field that is meant, and what is wrong with it, of the first of some errors of validation.

    A field that may be of several types has an error for each; they are told together.
    """
    first = found[0]
    if first["type"] == "json_invalid":
        place, why = first["loc"][-1], first.get("ctx", {}).get("error", "not JSON")
        return "", f"the body is no JSON ({why} at character {place}); send a JSON object."
    if first["loc"] == ("body",) and first["type"] in ("missing", "model_attributes_type", "model_type", "dict_type"):
        return "", "the body is no JSON object; send one with the fields that /openapi.json describes."
    where = _field(first["loc"])
    same = [str(one["msg"]).removeprefix("Value error, ") for one in found if _field(one["loc"]) == where]
    said = ", or ".join(dict.fromkeys(same))
    return where, (f"{where}: {said}" if where else said)[:1000]


def _field(place: Sequence[Any]) -> str:
    """Return a field by its path, without the names of types that it could be of."""
    named = (str(part) for part in place if part not in ("body", "str") and not str(part).startswith("list["))
    return ".".join(named)[:200]


def chat_scores(texts: TokenTexts, scores: Sequence[TokenScore]) -> dict[str, Any]:
    """Return log-probabilities as chats have them."""

    def entry(token: int, log_probability: float) -> dict[str, Any]:
        return {"token": texts(token), "logprob": log_probability, "bytes": texts.bytes_of(token)}

    return {
        "content": [
            {
                **entry(score.token, score.log_probability),
                "top_logprobs": [entry(token, value) for token, value in score.top],
            }
            for score in scores
        ],
        "refusal": None,
    }


def completion_scores(
    texts: TokenTexts, scores: Sequence[TokenScore], first: int | None = None, offset: int = 0
) -> dict[str, Any]:
    """Return log-probabilities as completions have them.

    Args:
        first: the first token of a prompt, of which there is none; None where the scores do not begin with it.
        offset: characters before the first token.
    """
    tokens = [] if first is None else [texts(first)]
    values: list[float | None] = [None] * len(tokens)
    tops: list[dict[str, float] | None] = [None] * len(tokens)
    for score in scores:
        tokens.append(texts(score.token))
        values.append(score.log_probability)
        # The likeliest first: where two look alike, its value is the one that stays.
        top: dict[str, float] = {}
        for token, value in (*score.top, (score.token, score.log_probability)):
            top.setdefault(texts(token), value)
        tops.append(top)
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}
