"""A report does in a browser what it says: sorts, filters, shows pictures, asks nothing of any network, suits everyone.

    python scripts/check_report.py [--page FILE] [--large N] [--screenshots DIR] [--browser PATH] [--json FILE]

Without ``--page``, a report is made of the generated set: a retrieval baseline and a system that always takes the first
option. ``--large N`` makes one of N questions with N different pictures as well (20,000: the bar), and measures it.
Needs Chromium and the packages playwright and axe-playwright-python (``pip install 'mm-adapter[test]'``).
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from bars import bar, write_bars
from PIL import Image

from mm_adapter.core.files import write_json
from mm_adapter.core.progress import with_progress
from mm_adapter.data.demo import write_demo
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.page.report_files import report
from mm_adapter.eval.predictions import write_predictions
from mm_adapter.eval.record import Prediction
from mm_adapter.eval.retrieval import retrieval_predictions

WIDTHS = (400, 1400)
# A browser without a user's profile that asks nobody anything of its own accord.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def find_browser(path: str | None = None) -> str | None:
    """Return the path of Chromium, or None where there is none."""
    return path or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def started(browser: str) -> Iterator[Any]:
    """Start the browser at that path; yield it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def opened(
    page_file: Path, browser: str | Any, width: int = 1400, scheme: str = "light"
) -> Iterator[tuple[Any, list[str]]]:
    """Open a page; yield it and the list that collects errors of the console and requests that leave the page.

    Args:
        browser: path of a browser, or one that is started.
    """
    with started(browser) if isinstance(browser, str) else nullcontext(browser) as chromium:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        problems: list[str] = []
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: problems.append(asked.url[:200]) if _leaves(asked.url, page_file) else None)
        page.goto(page_file.resolve().as_uri())
        yield page, problems
        page.close()


def _leaves(address: str, page_file: Path) -> bool:
    return not address.startswith("data:") and address.split("#")[0] != page_file.resolve().as_uri()


def sorting_problems(page: Any) -> list[str]:
    """Sort every table that is shown by its first column of figures, both ways; return what is out of order."""
    problems, sorted_tables = [], 0
    for table in page.query_selector_all("table.sortable"):
        rows = _rows(table)
        columns = [place for place in range(len(rows[0])) if all(_figure(row[place]) is not None for row in rows)]
        if not table.is_visible() or not columns or len({row[columns[0]] for row in rows}) < 3:
            continue
        sorted_tables += 1
        for way in ("descending", "ascending"):
            table.query_selector_all("thead button")[columns[0]].click()
            figures = [_figure(row[columns[0]]) for row in _rows(table)]
            if figures != sorted(figures, reverse=way == "descending"):
                problems.append(f"{table.get_attribute('id')} is not {way}: {figures[:5]}")
    return problems if sorted_tables else ["no table to sort"]


def _rows(table: Any) -> list[list[str]]:
    # In one call: every question to the browser takes a millisecond or more.
    return table.evaluate("(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.innerText))")


def _figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def filtering_problems(page: Any) -> list[str]:
    """Filter a table and the questions; return what is shown wrongly."""
    problems = []
    rows = page.locator("#table-by-subject-context tbody tr")
    whole = rows.count()
    page.fill("#filter-by-subject-context", "IMG")
    shown = [row for row in rows.all() if row.is_visible()]
    if not 0 < len(shown) < whole or any("IMG" not in row.inner_text() for row in shown):
        problems.append(f"the filter IMG shows {len(shown)} of {whole} rows")
    page.fill("#filter-by-subject-context", "")
    total = int(page.inner_text("#found").split()[2 if "of" in page.inner_text("#found") else 0])
    page.select_option("#context", "IMG")
    pictured = int(page.inner_text("#found").split()[0])
    page.select_option("#outcome", "right 0")
    right = int(page.inner_text("#found").split()[0])
    page.select_option("#outcome", "wrong 0")
    wrong = int(page.inner_text("#found").split()[0])
    if right + wrong != pictured or not 0 < pictured <= total:
        problems.append(f"{right} right and {wrong} wrong of {pictured} with pictures, of {total}")
    page.select_option("#outcome", "")
    page.select_option("#context", "")
    return problems


def picture_problems(page: Any) -> list[str]:
    """Show questions with pictures; return pictures that did not load."""
    page.select_option("#context", "IMG")
    page.wait_for_selector("#questions img")
    for image in page.locator("#questions img").all():
        image.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    broken = page.evaluate("[...document.querySelectorAll('#questions img')].filter(i => !i.naturalWidth).length")
    page.select_option("#context", "")
    return [f"{broken} pictures did not load"] if broken else []


def accessibility_problems(page: Any) -> list[str]:
    """Return axe-core's serious and critical violations."""
    from axe_playwright_python.sync_playwright import Axe

    # Run from outside the page's own script, which the content security policy alone would let run.
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']} ({len(one['nodes'])}: {one['nodes'][0]['html'][:120]})"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def check_page(
    page_file: Path, browser: str, screenshots: Path | None = None, widths: Sequence[int] = WIDTHS
) -> dict[str, list[str]]:
    """Open a report as its readers do, on screens of ``widths`` pixels; return problems by kind."""
    with started(browser) as chromium:
        return _check_page(page_file, chromium, screenshots, widths)


def _check_page(
    page_file: Path, chromium: Any, screenshots: Path | None, widths: Sequence[int]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with opened(page_file, chromium) as (page, problems):
        found["sorting"] = sorting_problems(page)
        found["filtering"] = filtering_problems(page)
        found["pictures"] = picture_problems(page)
        found["console errors and requests"] = problems
    found["accessibility"], found["width"] = [], []
    for width in widths:
        for scheme in ("light", "dark"):
            with opened(page_file, chromium, width, scheme) as (page, problems):
                page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
                found["accessibility"] += [f"{width} px, {scheme}: {text}" for text in accessibility_problems(page)]
                page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
                found["console errors and requests"] += problems
                wide = page.evaluate("document.documentElement.scrollWidth")
                found["width"] += [f"{width} px, but the page is {wide} wide"] if wide > width else []
                if screenshots is not None:
                    screenshots.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=screenshots / f"report-{width}-{scheme}.png", full_page=True)
    return found


def make_report(folder: Path, size: int = 200) -> Path:
    """Make a report of a generated set: a retrieval baseline, and a system that always takes the first option."""
    write_demo(folder / "data", seed=0, size=size)
    dataset = read_dataset(str(folder / "data"))
    questions = dataset.split("test")
    write_predictions(folder / "retrieval.jsonl", retrieval_predictions(dataset.split("train"), questions))
    even = []
    for question in questions:
        shares = (1 / len(question.options),) * len(question.options)
        even.append(Prediction(question.pid, 0, (), shares, "The answer is A.", "answer is", "It is first."))
    write_predictions(folder / "first.jsonl", even)
    return report([folder / "retrieval.jsonl", folder / "first.jsonl"], str(folder / "data"), folder / "report")


def make_large(folder: Path, size: int) -> None:
    """Write ``size`` questions of 60 words with 45 words of solution and a picture of their own, and answers."""
    generator, words = np.random.default_rng(0), [f"word{number}" for number in range(500)]
    draw = random.Random(0)
    pids = [str(number) for number in range(size)]
    problems, answers = {}, []
    for pid in with_progress(pids, "making questions", "question"):
        place = folder / "images" / "test" / pid
        place.mkdir(parents=True)
        # Smooth, as pictures are: noise alone would be no picture that anyone asks about.
        small = Image.fromarray(generator.integers(0, 255, (9, 12, 3), dtype=np.uint8))
        small.resize((480, 360), Image.Resampling.BICUBIC).save(place / "image.jpg", quality=85)
        problems[pid] = {
            "question": " ".join(draw.choices(words, k=15)), "choices": draw.sample(words, 4),
            "answer": draw.randrange(4), "hint": " ".join(draw.choices(words, k=45)), "image": "image.jpg",
            "task": "closed choice", "grade": f"grade{draw.randrange(12) + 1}", "topic": "physics",
            "subject": draw.choice(["natural science", "social science", "language science"]), "category": "Things",
            "skill": f"Skill {draw.randrange(300)}", "lecture": "", "split": "test",
            "solution": " ".join(draw.choices(words, k=45)),
        }  # fmt: skip
        shares = generator.dirichlet([1.0] * 4).tolist()
        answers.append(Prediction(pid, int(np.argmax(shares)), (), tuple(shares)))
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", {"train": [], "val": [], "test": pids})
    write_predictions(folder / "answers.jsonl", answers)


def check_large(folder: Path, size: int, browser: str) -> list[dict[str, Any]]:
    """Make a large report and use it; return its bars."""
    make_large(folder, size)
    start = time.perf_counter()
    page_file = report([folder / "answers.jsonl"], str(folder), folder / "report")
    seconds = time.perf_counter() - start
    megabytes = page_file.stat().st_size / 1e6
    start = time.perf_counter()
    with opened(page_file, browser) as (page, problems):
        page.wait_for_selector("#questions li")
        ready = time.perf_counter() - start
        start = time.perf_counter()
        page.select_option("#outcome", "wrong 0")
        page.fill("#words", "word7")
        page.wait_for_timeout(200)  # the page waits for the end of typing
        page.inner_text("#found")
        chosen = time.perf_counter() - start
        shown = picture_problems(page)
    return [
        bar(f"{size} questions: seconds to build", seconds, 60, seconds < 60),
        bar(f"{size} questions: megabytes", megabytes, 60, megabytes < 60),
        bar(f"{size} questions: seconds until the page is ready", ready, 10, ready < 10),
        bar(f"{size} questions: seconds to filter and search", chosen, 2, chosen < 2),
        bar(f"{size} questions: problems", len(problems) + len(shown), 0, not problems and not shown),
    ]


def main() -> int:
    """Check a report, print what was found, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="report.html to check; one is made by default")
    parser.add_argument("--large", type=int, default=0, help="also make and check a report of so many questions")
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of the page")
    parser.add_argument("--browser", help="path of Chromium; the one on the path by default")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    browser = find_browser(options.browser)
    if browser is None:
        raise SystemExit("There is no Chromium here. Install Debian's package chromium, or name one with --browser.")
    with tempfile.TemporaryDirectory() as folder:
        page_file = options.page or make_report(Path(folder) / "small")
        found = check_page(page_file, browser, options.screenshots)
        bars = [bar(f"problems: {kind}", len(problems), 0, not problems) for kind, problems in found.items()]
        for kind, problems in found.items():
            for problem in problems:
                print(f"{kind}: {problem}")
        if options.large:
            bars += check_large(Path(folder) / "large", options.large, browser)
    for one in bars:
        print(f"{'holds' if one['holds'] else 'MISSED':7}{one['name']:60} {one['value']:.4g}  bar {one['bar']}")
    if options.json is not None:
        write_bars(options.json, bars)
    return 0


if __name__ == "__main__":
    sys.exit(main())
