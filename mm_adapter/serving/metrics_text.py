"""What the server has done, in Prometheus' text format (exposition format 0.0.4)."""

from collections.abc import Iterable

from mm_adapter.serving.engine import Engine
from mm_adapter.serving.guard import Guard

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(engine: Engine, guard: Guard) -> str:
    """Return all figures; counters grow from the start of the server on."""
    requests = [(_labels(path=path, status=status), count) for (path, status), count in sorted(guard.answered.items())]
    seconds = [(_labels(path=path), total) for path, total in sorted(guard.seconds.items())]
    found = [
        _metric("requests_total", "counter", "Requests by path and status.", requests),
        _metric("request_seconds_total", "counter", "Time that requests took, by path.", seconds),
    ]
    for name, kind, text, value in (
        ("jobs_finished_total", "counter", "Questions and texts that were done.", engine.finished),
        ("jobs_failed_total", "counter", "Questions and texts that ended by an error.", engine.failed),
        ("questions_scored_total", "counter", "Questions whose options were scored.", engine.scored),
        ("scoring_passes_total", "counter", "Passes in which they were scored, many at a time.", engine.passes),
        ("tokens_written_total", "counter", "Tokens that were written.", engine.written),
        ("writing_steps_total", "counter", "Steps in which they were written, one of every text.", engine.steps),
        ("queue_length", "gauge", "Questions and texts that wait.", engine.waiting),
        ("rows", "gauge", "Texts that are being written.", engine.rows),
        ("requests_present", "gauge", "Requests that are not answered yet.", guard.present),
        ("body_bytes_held", "gauge", "Bytes of their bodies.", guard.held),
    ):
        found.append(_metric(name, kind, text, [("", value)]))
    return "".join(found)


def _metric(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> str:
    name = f"mm_adapter_{name}"
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return "\n".join([*lines, *(f"{name}{labels} {value:g}" for labels, value in samples)]) + "\n"


def _labels(**labels: object) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
