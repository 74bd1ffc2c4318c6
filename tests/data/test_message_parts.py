"""Messages whose content is a list of parts, and turns that no template has a place for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversations import open_conversations, read_conversations


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def asked(content: Any, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "An owl."}]
    return {"messages": messages, **more}


def saved(folder: Path, *records: dict[str, Any]) -> str:
    path = folder / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


@pytest.mark.parametrize(
    ("content", "more"),
    [
        ([{"type": "image"}, text("Which bird?")], {"image": "owl.png"}),
        ([text("Which bird?"), {"type": "image", "image": "owl.png"}], {}),
        ([text("Which bird?"), {"type": "image_url", "image_url": {"url": "owl.png"}}], {}),
        ([{"type": "image", "text": None, "path": "owl.png"}, {**text("Which bird?"), "path": None}], {"images": []}),
        ([{"type": "input_image", "image_url": "owl.png"}, {"type": "input_text", "text": "Which bird?"}], {}),
        (["<image>", "Which bird?"], {"images": ["owl.png"]}),
    ],
)
def test_a_picture_among_the_parts(
    tmp_path: Path, put_image: Callable[[Path], Path], content: Any, more: dict[str, Any]
) -> None:
    """Wherever it stands and however its part calls it, the conversation is the same."""
    picture = put_image(tmp_path / "owl.png")
    (found,) = read_conversations(saved(tmp_path, asked(content, **more)))
    assert (found.image, [turn.text for turn in found.turns]) == (picture, ["Which bird?", "An owl."])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ab ?é", min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_parts_of_text_are_one_text(tmp_path: Path, texts: list[str]) -> None:
    (found,) = read_conversations(saved(tmp_path, asked([text(words) for words in texts])))
    (plain,) = read_conversations(saved(tmp_path, asked("\n".join(texts))))
    assert found == plain


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (asked([{"type": "image"}, text("x")]), "has <image> in its first turn but names no picture"),
        (asked([{"type": "image", "image": "owl.png"}, text("x")], image="owl.png"), "and one among its turns"),
        (asked([{"type": "image", "image": "owl.png"}] * 2), "2 pictures among its turns"),
        (asked([{"type": "image"}, {"type": "image"}, text("x")], image="owl.png"), "elsewhere than once"),
        (asked([{"type": "video", "video": "x.mp4"}, text("x")]), "a part 'video' in turn 0"),
        (asked([{"type": "text"}]), "has no 'text'"),
        (asked([3]), "a part 'a number' in turn 0"),
        (asked([]), "no text in 'value'"),
        (asked([{"type": "image", "image": "https://example.org/owl.png"}, text("x")]), "--allow-urls"),
        (asked([{"type": "image", "image": "../owl.png"}, text("x")]), "outside the image folder"),
    ],
)
def test_parts_that_cannot_be_used(
    tmp_path: Path, put_image: Callable[[Path], Path], record: dict[str, Any], said: str
) -> None:
    put_image(tmp_path / "owl.png")
    with pytest.raises(UserError, match=said):
        read_conversations(saved(tmp_path, record))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (("system", "user", "assistant"), "turn 0 from 'system'.* write what it says into the first turn of the user"),
        (("user", "assistant", "system", "user", "assistant"), "turn 2 from 'system'"),
        (("assistant", "user", "assistant"), "turn 0 from 'assistant' where the user is next; .* begins with the user"),
        (("user", "user", "assistant"), "turn 1 from 'user' where the assistant is next"),
        (("user", "tool"), "turn 1 from 'tool'"),
    ],
)
def test_turns_without_a_place_in_a_template(tmp_path: Path, roles: tuple[str, ...], said: str) -> None:
    """Refused by name, with the remedy; left out with the others that are bad where the user says so."""
    bad = {"messages": [{"role": role, "content": "x"} for role in roles]}
    source = saved(tmp_path, asked("Which bird?"), bad)
    with pytest.raises(UserError, match=f"line 2: has {said}"):
        open_conversations(source)
    found = open_conversations(source, skip_bad=True)
    assert (len(found.split("all")), list(found.bad)) == (1, ["line 2"])
