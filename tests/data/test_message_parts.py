"""Messages whose content is a list of parts, and turns that no template has a place for."""

import json
from collections.abc import Callable
from dataclasses import replace
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


@pytest.mark.parametrize("role", ["system", "developer"])
def test_what_the_system_says_stands_with_the_first_turn(
    tmp_path: Path, put_image: Callable[[Path], Path], role: str
) -> None:
    """As a turn, as a list of parts, or in a column of its own beside the turns; a picture is none of its words."""
    put_image(tmp_path / "owl.png")
    plain = asked([{"type": "image", "image": "owl.png"}, text("Which bird?")])
    (expected,) = read_conversations(saved(tmp_path, plain))
    for content in ("Be\nbrief.", [text("Be"), text("brief.")]):
        turns = {"messages": [{"role": role, "content": content}, *plain["messages"]]}
        (found,) = read_conversations(saved(tmp_path, turns))
        assert found.turns == (replace(expected.turns[0], system="Be\nbrief."), expected.turns[1])
        assert found.image == expected.image
    first, second = read_conversations(saved(tmp_path, {**plain, "system": "Be kind."}, {**plain, "system": " "}))
    assert [first.turns[0].system, second.turns[0].system] == ["Be kind.", ""]
    for content, said in (([{"type": "image"}], "a picture in the turn of the system"), ("", "no text in 'value'")):
        bad = {"messages": [{"role": role, "content": content}, *plain["messages"]]}
        with pytest.raises(UserError, match=said):
            read_conversations(saved(tmp_path, bad))
    both = {"messages": [{"role": role, "content": "x"}, *plain["messages"]], "system": "y"}
    with pytest.raises(UserError, match="a turn of the system and a text in 'system'"):
        read_conversations(saved(tmp_path, both))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (("system", "system", "user", "assistant"), "turn 1 from 'system'.* before the first turn of the user alone"),
        (("user", "assistant", "system", "user", "assistant"), "turn 2 from 'system'"),
        (("system", "assistant", "user", "assistant"), "turn 1 from 'assistant' where the user is next"),
        (("system", "user", "assistant", "user"), "turn 3 of the user, who gets no response"),
        (("system",), "nothing but a turn of the system"),
        (("assistant", "user", "assistant"), "turn 0 from 'assistant' where the user is next; .* begins with the user"),
        (("user", "user", "assistant"), "turn 1 from 'user' where the assistant is next"),
        (("user", "tool"), "turn 1 from 'tool'"),
    ],
)
def test_turns_without_a_place_in_a_template(tmp_path: Path, roles: tuple[str, ...], said: str) -> None:
    """Refused by name, with the remedy; left out with the others that are bad where the user says so."""
    bad = {"messages": [{"role": role, "content": "x"} for role in roles]}
    source = saved(tmp_path, asked("Which bird?"), bad)
    with pytest.raises(UserError, match=f"line 2: (?:has|ends with) {said}"):
        open_conversations(source)
    found = open_conversations(source, skip_bad=True)
    assert (len(found.split("all")), list(found.bad)) == (1, ["line 2"])
