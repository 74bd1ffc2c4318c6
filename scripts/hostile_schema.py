"""Requests drawn by schemathesis from a server's own description: replies are as described, and none is a 5xx.

    python scripts/hostile_schema.py URL [--examples 100] [--seed 0]

503 with Retry-After is described, and allowed.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import sampled_from
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

_KEPT = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)


def check_schema(url: str, examples: int, start: int = 0, paths: Sequence[str] = ()) -> list[str]:
    """Ask every operation that a server describes, by requests that its schema allows and by others.

    Args:
        url: of the server.
        examples: requests of each operation and each kind.
        start: seed of the draws.
        paths: of the operations that are asked; empty for all.

    Returns:
        What is wrong: a line for each operation and kind where something is.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    listed = schema["/v1/models"]["GET"].Case().call().json()["data"]
    names = [item["id"] for item in listed]
    wrong = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if paths and operation.path not in paths:
            continue
        for mode in GenerationMode:
            try:
                _try(operation, mode, names, examples, start)
            except (AssertionError, FailureGroup) as reason:
                shown = "; ".join(str(one) for one in getattr(reason, "exceptions", [reason]))
                wrong.append(f"{operation.method.upper()} {operation.path}, {mode.value}: {shown[:1500]}")
            except Exception as reason:
                if type(reason).__name__ != "Unsatisfiable":  # nothing but what is allowed can be sent there
                    raise
    return wrong


def _try(operation: Any, mode: GenerationMode, names: list[str], examples: int, start: int) -> None:
    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), name=sampled_from([None, *names]))
    def ask(case: Any, name: str | None) -> None:
        if name is not None and isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = name  # a drawn name is none of the server's
        response = case.call(timeout=30)
        allowed = [] if response.status_code == 503 and response.headers.get("retry-after") else [not_a_server_error]
        case.validate_response(response, checks=[*allowed, *_KEPT])

    ask()


def main() -> int:
    """Print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("url", help="of the server, such as http://127.0.0.1:8000")
    parser.add_argument("--examples", type=int, default=100, help="requests of each operation and kind")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    options = parser.parse_args()
    wrong = check_schema(options.url, options.examples, options.seed)
    print("\n".join(wrong) or "every reply is as described")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
