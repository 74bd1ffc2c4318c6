"""The server keeps what /openapi.json says: requests drawn from it by schemathesis, allowed ones and others."""

from typing import Any

import pytest

pytest.importorskip("schemathesis")
from hostile_schema import check_schema


def test_every_reply_is_as_described(server: Any) -> None:
    """Status, kind of content and fields; none is an error of the server's own; every route is asked."""
    before = dict(server.figures())
    assert check_schema(server.url, examples=3) == []
    asked = {
        name for name, count in server.figures().items() if "requests_total" in name and count > before.get(name, 0)
    }
    for path in ("/v1/answer", "/v1/answer/batch", "/v1/chat/completions", "/v1/completions", "/v1/models/{name}"):
        assert any(f'path="{path}"' in name for name in asked), path
    assert any('path="/v1/answer",status="200"' in name for name in asked)


def test_an_error_of_its_own_is_found(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the route that it is of."""

    def fail(*_: Any) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr("mm_adapter.serving.app.metrics_text", fail)
    wrong = check_schema(server.url, examples=1, paths=("/metrics", "/health"))
    assert len(wrong) == 1
    assert wrong[0].startswith("GET /metrics")


def test_errors_and_overload_are_described(server: Any) -> None:
    """Of every route; 503 with the header that says when to come back."""
    description = server.http.get("/openapi.json").json()
    for path, methods in description["paths"].items():
        for operation in methods.values():
            replies = operation["responses"]
            assert {"200", "400", "401", "404", "408", "413", "415", "421", "503"} <= set(replies), path
            assert "422" not in replies
            if path != "/health":
                assert "Retry-After" in replies["503"]["headers"]
                assert replies["503"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorReply")
