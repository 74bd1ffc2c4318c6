"""Text as it comes: the pieces make the whole, no broken character, nothing of a stop string."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.llama.tokenizers.tokenizer import TextStream


class Bytes:
    """A tokenizer of one id per byte."""

    begin = ()
    end = 256
    vocab_size = 257

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    encode_continuation = encode

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(ids).decode(errors="replace")


def pieces(text: str, stop_strings: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(Bytes(), stop_strings)
    found = [stream.push(token) for token in Bytes().encode(text)]
    return [*found, stream.finish()]


@given(text=st.text(max_size=30))
def test_pieces_make_the_whole(text: str) -> None:
    """Whatever the bytes of a character, it comes once and whole."""
    found = pieces(text)
    assert "".join(found) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in found)


def stopped_texts(letters: str) -> st.SearchStrategy[tuple[str, list[str]]]:
    return st.tuples(st.text(letters, max_size=20), st.lists(st.text(letters, min_size=1, max_size=3), max_size=2))


@given(drawn=stopped_texts("abX") | stopped_texts("aé字"))
def test_stop_strings_end_the_text(drawn: tuple[str, list[str]]) -> None:
    """What is given out is the text up to the first stop string, none of it too early, nor between a letter's bytes."""
    text, stop_strings = drawn
    expected = None
    for size in range(len(text) + 1):
        positions = [text[:size].find(stop) for stop in stop_strings if stop in text[:size]]
        if positions:
            expected = text[: min(positions)]
            break
    found = "".join(pieces(text, tuple(stop_strings)))
    assert found == (text if expected is None else expected)


def test_nothing_comes_after_a_stop() -> None:
    """A stopped stream says so and stays silent."""
    stream = TextStream(Bytes(), ("END",))
    given_out = "".join(stream.push(token) for token in Bytes().encode("so END of it"))
    assert (given_out, stream.stopped, stream.text, stream.finish()) == ("so ", True, "so ", "")


def test_a_long_text_costs_no_more_by_token_than_a_short_one() -> None:
    """Each token is decoded with those right before it, not with all that came before."""

    class Counting(Bytes):
        decoded = 0

        def decode(self, ids: Iterable[int]) -> str:
            listed = list(ids)
            self.decoded += len(listed)
            return super().decode(listed)

    costs = []
    for length in (400, 4000):
        tokenizer = Counting()
        stream = TextStream(tokenizer)
        text = ("Ein Häuschen, 木の家. " * length)[:length]
        ids = tokenizer.encode(text)
        assert "".join([*map(stream.push, ids), stream.finish()]) == text
        costs.append(tokenizer.decoded / len(ids))
    assert costs[1] < 1.1 * costs[0] < 110
