"""The page to ask on, in a headless browser: what it shows is what the models say, and nothing leaves the machine."""

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import check_report
import pytest
from test_protocol import data_uri

from mm_adapter.model import MultimodalLlama

QUESTION = "Which number?"
CHOICES = ["one", "two", "twenty-one"]
HOSTILE = "<img src=x onerror='window.hacked = 1'>"
Models = dict[str, MultimodalLlama]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One headless Chromium for all tests here."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="the browser is driven by playwright: pip install 'mm-adapter[test]'"
    )
    path = check_report.find_browser()
    if path is None:
        pytest.skip("there is no Chromium here: install Debian's package chromium")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=check_report.FLAGS)
        yield browser
        browser.close()


class Opened:
    """The page in a tab.

    Attributes:
        page: of Playwright.
        requests: every address that was asked for.
        problems: what the browser's console complained of.
    """

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
        self.url, self.requests, self.problems = url, list[str](), list[str]()
        self.page.set_default_timeout(10_000)
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.goto(url)

    def fill(self, *models: str, choices: Any = CHOICES, picture: Path | None = None) -> None:
        """Fill in the form."""
        page = self.page
        page.wait_for_selector("#models input")
        page.fill("#question", QUESTION)
        page.fill("#choices", "\n".join(choices))
        for box in page.query_selector_all("#models input"):
            box.set_checked(box.get_attribute("value") in models)
        if picture is not None:
            page.set_input_files("#file", picture)
            page.wait_for_selector("#preview:visible")

    def ask(self, status: int = 200) -> None:
        """Press Ask, and wait for the end."""
        self.page.click("#ask")
        self.settled()
        if status != 200:  # the browser's own words of a refused request
            self.problems = [said for said in self.problems if f"status of {status}" not in said]

    def settled(self) -> None:
        """Wait until nothing is computed for this page."""
        self.page.wait_for_selector("#stop:disabled")

    def until(self, expression: str, given: Any = None) -> None:
        """Wait until something is so; Playwright's own way is an eval, which the page's policy forbids."""
        end = time.monotonic() + 10
        while not self.page.evaluate(expression, given):
            assert time.monotonic() < end, expression
            self.page.wait_for_timeout(10)

    def column(self, place: int = 0) -> Any:
        """Return the answer of a model."""
        return self.page.locator("article").nth(place)

    def shares(self, place: int = 0) -> list[float]:
        """Return the probabilities that are shown."""
        return [
            float(text.split()[0]) for text in self.column(place).locator(".name span:last-child").all_inner_texts()
        ]


@pytest.fixture(scope="module")
def asked(ways: Models, serving: Any) -> Iterator[Any]:
    """A server of adapters that see in every way."""
    with serving(ways) as found:
        yield found


@pytest.fixture
def opened(chromium: Any, asked: Any) -> Iterator[Opened]:
    """The page; whatever a test does, nothing is asked of another machine, and the console stays quiet."""
    found = Opened(chromium, asked.url)
    yield found
    found.page.close()
    outside = [url for url in found.requests if not url.startswith((f"{asked.url}/", "data:", "blob:"))]
    assert outside == []
    assert found.problems == []
    assert any(url.endswith("/v1/models") for url in found.requests)


def as_shown(probabilities: Any) -> list[float]:
    return [pytest.approx(100 * share, abs=0.051) for share in probabilities]


def test_a_picture_and_options(opened: Opened, ways: Models, picture: Path) -> None:
    """Uploaded, asked: every option with its number and a bar as long, the chosen one marked and said."""
    opened.fill("shared", picture=picture)
    opened.ask()
    told = ways["shared"].answer(QUESTION, picture, CHOICES)
    assert opened.shares() == as_shown(told.probabilities)
    chosen = opened.column().locator(".chosen")
    assert chosen.count() == 1
    assert f"✓ {told.text} (chosen)" in chosen.inner_text()
    assert f"shared: {told.text}" in opened.page.inner_text("#status")
    for fill, share in zip(opened.column().locator(".fill").all(), told.probabilities, strict=True):
        track = fill.evaluate("(one) => one.parentElement.clientWidth")
        opened.until(
            "([place, width]) => Math.abs(document.querySelectorAll('.fill')[place].offsetWidth - width) < 2",
            [told.probabilities.index(share), track * share],
        )
    closed = ways["shared"].with_gates(0).answer(QUESTION, picture, CHOICES).probabilities
    change = 100 * (told.probabilities[0] - closed[0])
    assert f"{100 * closed[0]:.1f} % at gates 0, adapter {'−' if change < 0 else '+'}{abs(change):.1f}" in (
        opened.column().locator(".change").first.inner_text()
    )
    blind = ways["shared"].answer(QUESTION, None, CHOICES)
    opened.page.click("#remove")
    opened.ask()
    assert opened.shares() == as_shown(blind.probabilities)
    assert blind.probabilities != told.probabilities


def test_a_text_streams(opened: Opened, ways: Models) -> None:
    """Without options the text grows in the page piece by piece, up to what the model writes."""
    opened.fill("text", choices=[])
    opened.page.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => {
            const text = document.querySelector("article .text");
            if (text && text.textContent !== window.seen.at(-1)) window.seen.push(text.textContent);
        }).observe(document.getElementById("columns"), {childList: true, subtree: true, characterData: true});
    }""")
    opened.ask()
    told = ways["text"].answer(QUESTION).text
    assert opened.column().locator(".text").inner_text().split() == told.split()
    seen = opened.page.evaluate("window.seen")
    assert len(seen) > 3
    for shorter, longer in pairwise(seen[:-1]):
        assert longer.startswith(shorter)


def test_side_by_side(opened: Opened, ways: Models, picture: Path) -> None:
    """Each model that is ticked has a column of its own; one that takes no picture is asked without, and says so."""
    names = ["base", "text", "joined", "explains", "shared"]
    opened.fill(*names, picture=picture)
    opened.ask()
    for place, name in enumerate(names):
        told = ways[name].answer(QUESTION, picture if name == "shared" else None, CHOICES)
        assert opened.column(place).locator("h3").inner_text().split(",")[0] == name
        assert opened.shares(place) == as_shown(told.probabilities)
        assert ("without the picture" in opened.column(place).inner_text()) == (name != "shared")
        assert bool(told.explanation) == (name == "explains")
        if told.explanation:
            assert " ".join(told.explanation.split()) in " ".join(opened.column(place).inner_text().split())
    lefts = [opened.column(place).bounding_box()["x"] for place in range(2)]
    assert lefts[1] > lefts[0] + 100
    assert "no gated prompts" in opened.column(0).inner_text()
    opened.page.set_viewport_size({"width": 360, "height": 800})
    lefts = [opened.column(place).bounding_box()["x"] for place in range(2)]
    assert lefts[0] == lefts[1]


@pytest.mark.parametrize("name", ["shared", "tiles", "query"])
def test_the_slider(opened: Opened, ways: Models, picture: Path, name: str) -> None:
    """At 0 the column is the base's; in between what the model says with its gates scaled; moving it asks again."""
    opened.fill("base", name, picture=picture)
    opened.ask()
    assert opened.shares(0) != opened.shares(1)
    slider = opened.page.locator("#gates")
    slider.focus()
    opened.page.keyboard.press("Home")
    opened.until("document.querySelectorAll('h3')[1]?.textContent.endsWith('gates at 0.00')")
    opened.settled()
    assert opened.shares(0) == opened.shares(1)
    assert "its gates are at 0" in opened.column(1).inner_text()
    for _ in range(6):
        opened.page.keyboard.press("ArrowRight")
    opened.until("document.querySelectorAll('h3')[1]?.textContent.endsWith('gates at 0.30')")
    opened.settled()
    told = ways[name].with_gates(0.3).answer(QUESTION, picture, CHOICES)
    assert opened.shares(1) == as_shown(told.probabilities)


def test_where_it_looks(opened: Opened, asked: Any, picture: Path) -> None:
    """Over the picture where prompts have places, by layer and prompt for all; said in words where there is nothing."""
    opened.fill("shared", "tiles", "query", picture=picture)
    opened.ask()
    shared, tiles, query = (opened.column(place) for place in range(3))
    assert shared.locator(".over-picture").count() == 0
    assert "Not over the picture" in shared.inner_text()
    for column, name, size in ((tiles, "tiles", 4), (query, "query", 49)):
        request = {"model": name, "question": QUESTION, "choices": CHOICES, "image": data_uri(picture)}
        reply = asked.http.post("/v1/answer", json=request | {"attention": True}).json()
        cells = column.locator(".over-picture .cell")
        assert cells.count() == size
        shares = [share for row in reply["attention"]["picture"][0]["shares"] for share in row]
        left, top, right, bottom = reply["attention"]["picture"][0]["box"]
        side = round(size**0.5)
        for place, cell in enumerate(cells.all()):
            row, at = divmod(place, side)
            assert float(cell.get_attribute("x")) == pytest.approx(left + at * (right - left) / side)
            assert float(cell.get_attribute("y")) == pytest.approx(top + row * (bottom - top) / side)
        shown = [float(cell.get_attribute("fill-opacity")) for cell in cells.all()]
        assert shown == pytest.approx([0.75 * share / max(shares) for share in shares], abs=1e-3)
        box = column.locator(".over-picture img").bounding_box()
        assert column.locator(".over-picture svg").bounding_box() == pytest.approx(box, abs=1)
    assert shared.locator("svg").count() == 2
    assert tiles.locator("svg").count() == 4
    opened.page.uncheck("#attention")
    opened.ask()
    assert opened.page.locator("article svg").count() == 0


def test_an_example_is_filled_in_and_answered(opened: Opened, ways: Models) -> None:
    """A click takes its picture, question and options."""
    examples = opened.page.locator("#examples button")
    examples.first.wait_for()
    assert examples.count() == 5
    opened.fill("shared")
    examples.first.click()
    assert opened.page.input_value("#question") == examples.first.inner_text().strip()
    assert len(opened.page.input_value("#choices").splitlines()) >= 2
    opened.ask()
    assert len(opened.shares()) == len(opened.page.input_value("#choices").splitlines())
    assert "without the picture" not in opened.column().inner_text()
    examples.last.click()
    assert not opened.page.is_visible("#preview")


def test_dropped_and_pasted(opened: Opened, picture: Path) -> None:
    """A picture is taken either way; a file that is none is refused in words."""
    give = """([uri, kind, event, place]) => {
        const bytes = Uint8Array.from(atob(uri.split(",")[1]), (one) => one.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "mine", {type: kind}));
        const made = event === "paste" ? new ClipboardEvent(event, {clipboardData: data, bubbles: true})
            : new DragEvent(event, {dataTransfer: data, bubbles: true, cancelable: true});
        document.querySelector(place).dispatchEvent(made);
    }"""
    for event, place in (("drop", "#drop"), ("paste", "#question")):
        opened.page.evaluate(give, [data_uri(picture), "image/png", event, place])
        opened.page.wait_for_selector("#preview:visible")
        assert opened.page.get_attribute("#preview", "src") == data_uri(picture)
        opened.page.click("#remove")
    opened.page.evaluate(give, [data_uri(picture), "text/plain", "drop", "#drop"])
    assert "is no picture" in opened.page.inner_text("#error")
    assert not opened.page.is_visible("#preview")


def test_by_keyboard_alone(opened: Opened) -> None:
    """Everything is reached by Tab and seen to be; a question is written, a model ticked, asked and stopped so."""
    page = opened.page
    page.wait_for_selector("#models input")
    page.wait_for_selector("#examples button")
    reached: list[str] = []

    def onward(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.evaluate("""() => {
                const one = document.activeElement, style = getComputedStyle(one);
                return [one.id || one.value || one.tagName, style.outlineStyle, parseFloat(style.outlineWidth)];
            }""")
            reached.append(focused[0])
            assert focused[1] != "none", focused
            assert focused[2] >= 1, focused
            if focused[0] == wanted:
                return
        raise AssertionError(f"{wanted} is not reached by Tab: {reached}")

    onward("file")
    onward("question")
    page.keyboard.type(QUESTION)
    onward("choices")
    page.keyboard.type("one\ntwo")
    onward("base")
    page.keyboard.press("Space")
    onward("gates")
    onward("attention")
    onward("ask")
    page.keyboard.press("Enter")
    page.wait_for_selector("article .chosen")
    opened.settled()
    assert page.locator("article").count() == 2
    page.focus("#question")
    page.keyboard.press("Control+a")
    page.keyboard.type("Another?")
    page.keyboard.press("Control+Enter")
    opened.until("document.querySelectorAll('article .chosen').length === 2")
    opened.settled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_suits_everyone(chromium: Any, asked: Any, picture: Path, scheme: str) -> None:
    """No serious finding of axe, before and after an answer, light and dark; every control has a name."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="accessibility is checked by axe")
    opened = Opened(chromium, asked.url, color_scheme=scheme)
    opened.page.wait_for_selector("#examples button")
    for answered in (False, True):
        if answered:
            opened.fill("base", "tiles", picture=picture)
            opened.ask()
        found = axe.Axe().run(opened.page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")
    opened.page.close()


def test_a_narrow_screen(chromium: Any, asked: Any, picture: Path) -> None:
    """At 360 pixels nothing lies beside the screen, however long a word is; markup in an option stays text."""
    opened = Opened(chromium, asked.url, viewport={"width": 360, "height": 740})
    opened.page.wait_for_selector("#examples button")
    opened.fill("base", "tiles", choices=["a", "W" * 90, HOSTILE], picture=picture)
    opened.ask()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert HOSTILE in opened.column().inner_text()
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.evaluate("document.getElementById('answers').getBoundingClientRect().top") < 740
    opened.page.close()


def test_errors_are_told_in_words(opened: Opened) -> None:
    """The server's reason, and what the page itself finds missing."""
    opened.fill("text", choices=["one"])
    opened.page.click("#ask")
    assert "There is one option" in opened.page.inner_text("#error")
    opened.fill()
    opened.page.click("#ask")
    assert "Nobody is to answer" in opened.page.inner_text("#error")
    opened.fill("text", "base")
    opened.page.fill("#question", "word " * 400)
    opened.ask(400)
    assert "needs" in opened.column(0).locator(".wrong").inner_text()
    assert "needs" in opened.page.inner_text("#error")
    opened.page.fill("#question", QUESTION)
    opened.page.route("**/v1/answer", lambda route: route.abort())
    opened.ask()
    assert "the server cannot be reached" in opened.column().locator(".wrong").inner_text()
    opened.problems = [said for said in opened.problems if "ERR_FAILED" not in said]


def test_a_text_can_be_stopped(opened: Opened, asked: Any) -> None:
    """Nothing further is written for it, on the page and in the engine."""
    opened.fill("base", choices=[])
    opened.page.click("summary >> nth=0")
    opened.page.fill("#length", "1000")
    before = asked.engine.written
    opened.page.click("#ask")
    opened.until("document.querySelector('article .text')?.textContent.length > 0")
    opened.page.click("#stop")
    opened.settled()
    assert "Stopped." in opened.column().inner_text()
    assert opened.page.evaluate("document.activeElement.id") == "ask"
    opened.page.wait_for_timeout(300)
    assert asked.engine.rows == 0
    assert asked.engine.written - before < 900


def test_a_server_with_a_token(chromium: Any, serve: Any) -> None:
    """The page loads, asks for the token, says when it is wrong, and works with the right one."""
    with serve(token="secret") as server:
        opened = Opened(chromium, server.url)
        opened.page.wait_for_selector("#token:visible")
        assert "wants its token" in opened.page.inner_text("#error")
        opened.page.fill("#token", "guess")
        opened.page.keyboard.press("Enter")
        opened.until("document.getElementById('error').textContent.includes('wrong')")
        opened.page.fill("#token", "secret")
        opened.page.click("#use-token")
        opened.page.wait_for_selector("#models input")
        opened.fill("letters")
        opened.ask()
        assert sum(opened.shares()) == pytest.approx(100, abs=0.2)
        opened.page.close()
