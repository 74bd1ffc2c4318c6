"""``mm-adapter doctor``."""

import json as json_text

from mm_adapter.cli.options import Json

EXAMPLES = ("mm-adapter doctor", "mm-adapter doctor --json")
NOTES = ("The exit status is 0 whatever is found; nothing is sent or written.",)
_MARKS = {"good": " ", "optional": "-", "slow": "!", "wrong": "X"}


def doctor(*, json: Json = False) -> None:
    """Say what this machine and installation have, what is missing or slow, and how to mend it."""
    from mm_adapter.planning.machine import examine

    found = examine()
    states = {state: sum(finding.state == state for finding in found) for state in _MARKS}
    if json:
        print(json_text.dumps({"findings": [finding.to_json() for finding in found], "states": states}))
        return
    width = max(len(finding.name) for finding in found)
    for finding in found:
        print(f"{_MARKS[finding.state]} {finding.name:<{width}}  {finding.text}")
        if finding.advice:
            print(f"  {'':<{width}}  -> {finding.advice}")
    print(f"X wrong: {states['wrong']}, ! slow: {states['slow']}, - not there, not needed by all: {states['optional']}")
