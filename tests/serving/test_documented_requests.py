"""Every request that the guide shows is answered as it says."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from test_protocol import Models

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "serving.md"
CURLS = re.findall(r"^(curl .*?)\n```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("shown", CURLS)
def test_shown_requests(server: Any, models: Models, shown: str) -> None:
    """With the adapter's name in the place of RUN."""
    words = shlex.split(shown.replace("\\\n", " "))
    path, (name, value) = words[1].partition(":8000")[2], words[words.index("-H") + 1].split(": ")
    body = json.loads(words[words.index("-d") + 1].replace("RUN", "sees"))
    response = server.http.post(path, content=json.dumps(body), headers={name: value})
    assert response.status_code == 200, response.text
    reply = response.json()
    if path == "/v1/answer":
        shape = re.findall(r'"(\w+)":', PAGE.read_text(encoding="utf-8").split("```json")[1].split("```")[0])
        assert sorted([*reply, *reply["timing"]]) == sorted(shape)
        assert reply["choice"] == models["sees"].answer(body["question"], choices=body["choices"]).text
    assert len(CURLS) == 3
