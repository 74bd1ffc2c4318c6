"""A server under load: 64 clients at a time, three adapters and the base mixed, against one client after the other.

    python scripts/benchmark_server.py [--llama NAME] [--seconds N] [--clients N] [--kind mixed|answers|texts]
                                       [--no-peft] [--json FILE]

Each request is one of a pool: a question with options, of one adapter also with a picture, or a text of ``--tokens``
tokens. Every answer is held against that of the model in this process, computed one by one. Then the server is loaded
with streams and sent SIGTERM: whoever had the head of an answer must get the rest. Memory is that of the server, read
ten times a second; it may be at most twice what it is when the models are loaded.

It is held against PEFT's model behind FastAPI, one request at a time (``scripts/peft_server.py``). PEFT's adapters see
no pictures, so both servers are asked by as many clients, as long, what is left of the pool without the adapter that
sees; the others are converted. PEFT's answers, too, must be those of the model in this process.
"""

import argparse
import base64
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from bars import bar, write_bars
from peft_server import CONVERTED
from served import ROOT, ServerProcess, write_adapters
from tiny import write_questions

from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.loading import load_models

SPEED, MEMORY, RIVAL = 2.5, 2.0, 1.0
CONVERTIBLE = ("letters", "talks")
"""Adapters without pictures, which PEFT can hold."""
NO_PICTURES, PEFT = "without pictures", "PEFT, likewise"
CHOICES = ("red", "dark blue", "a shade of green", "none of these colours")


@dataclass(frozen=True)
class Asked:
    """A request and what its answer must be.

    Attributes:
        path, body: of the request.
        told: the text, or the chosen option with the probabilities of all.
    """

    path: str
    body: dict[str, Any]
    told: Any

    def holds(self, reply: dict[str, Any]) -> bool:
        """Whether a reply says the same."""
        if self.path == "/v1/completions":
            return bool(reply["choices"][0]["text"] == self.told)
        choice, probabilities = self.told
        near = zip(probabilities, reply["probabilities"], strict=True)
        return reply["index"] == choice and all(abs(one - other) < 1e-4 for one, other in near)


def make_pool(
    models: dict[str, MultimodalLlama], pictures: list[Path], size: int, tokens: int, kind: str
) -> list[Asked]:
    """Return requests of all models, questions and texts by turns, with their answers in process."""
    pool = []
    for number in range(size):
        name = list(models)[number % len(models)]
        model = models[name]
        if kind == "texts" or (kind == "mixed" and number // len(models) % 2):
            prompt = f"Write a story about the number {number}. " + "It is long. " * (number % 7)
            body = {"model": name, "prompt": prompt, "max_tokens": tokens}
            pool.append(Asked("/v1/completions", body, model.generate([prompt], max_new_tokens=tokens)[0]))
            continue
        picture = pictures[number % len(pictures)] if name == "sees" else None
        question, choices = f"Which colour has the thing with the number {number}?", list(CHOICES[: 2 + number % 3])
        context = "Things have colours. " * (number % 5)
        answer = model.answer(question, picture, choices, context)
        body = {"model": name, "question": question, "choices": choices, "context": context}
        if picture is not None:
            body["image"] = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
        pool.append(Asked("/v1/answer", body, (answer.choice, answer.probabilities)))
    return pool


@dataclass
class Load:
    """What clients met.

    Attributes:
        seconds: of each request.
        wrong: answers that were others.
        wall: seconds in all.
    """

    seconds: list[float]
    wrong: int
    wall: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.wall


def load(server: ServerProcess, pool: list[Asked], clients: int, seconds: float) -> Load:
    """Have clients ask one request after another for some time."""
    numbers, lock = itertools.count(), threading.Lock()
    start = time.perf_counter()
    found = Load([], 0, 0.0)

    def ask(_: int) -> None:
        with httpx.Client(base_url=server.url, timeout=300) as client:
            while time.perf_counter() - start < seconds:
                with lock:
                    asked = pool[next(numbers) % len(pool)]
                began = time.perf_counter()
                response = client.post(asked.path, json=asked.body)
                took = time.perf_counter() - began
                right = response.status_code == 200 and asked.holds(response.json())
                with lock:
                    found.seconds.append(took)
                    found.wrong += not right

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(ask, range(clients)))
    found.wall = time.perf_counter() - start
    return found


def end_amid(server: ServerProcess, pool: list[Asked], clients: int) -> tuple[int, int, int]:
    """Send SIGTERM while clients take streams; return how many were accepted, how many whole, and the exit status."""
    began = threading.Barrier(clients + 1)
    whole: list[bool] = []
    texts = [asked for asked in pool if asked.path == "/v1/completions"]

    def take(number: int) -> None:
        asked = texts[number % len(texts)]
        with httpx.stream(
            "POST", f"{server.url}{asked.path}", json=asked.body | {"stream": True}, timeout=300
        ) as reply:
            began.wait()
            events = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
        text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])
        whole.append(events[-1] == "[DONE]" and text == asked.told)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    began.wait()
    server.terminate()
    for thread in threads:
        thread.join()
    return clients, sum(whole), server.wait(60)


def load_peft(llama: str, adapters: dict[str, Path], pool: list[Asked], clients: int, seconds: float) -> Load:
    """Have PEFT's server asked the same: the adapters are converted, and stand in a folder of ours."""
    chosen = {name: adapters[name] for name in CONVERTIBLE}
    for folder in chosen.values():
        command = [sys.executable, "-m", "mm_adapter", "convert", "--to", "peft", "--llama", llama]
        subprocess.run([*command, "--adapter", folder, "--out", folder / CONVERTED], check=True, cwd=ROOT)
    log = next(iter(chosen.values())).parent / "peft-log"
    with ServerProcess(llama, chosen, log, program=[str(ROOT / "scripts" / "peft_server.py")]) as server:
        load(server, pool, 1, 2)
        return load(server, pool, clients, seconds)


def main() -> int:
    """Measure, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--llama", default=DEFAULT_LLAMA, help="base model")
    parser.add_argument("--seconds", type=float, default=60, help="how long the clients ask")
    parser.add_argument("--clients", type=int, default=64, help="that ask at a time")
    parser.add_argument("--pool", type=int, default=64, help="different requests")
    parser.add_argument("--tokens", type=int, default=24, help="of a text")
    parser.add_argument("--kind", default="mixed", choices=("mixed", "answers", "texts"), help="what is asked")
    parser.add_argument("--no-peft", action="store_true", help="leave out PEFT's server")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    rows: dict[str, Load] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        adapters = write_adapters(folder, load_llama(options.llama), one_gate=CONVERTIBLE)
        pictures = sorted((write_questions(folder / "data", 60) / "images" / "test").glob("*/image.png"))[:6]
        models = load_models(options.llama, adapters)
        pool = make_pool(models, pictures, options.pool, options.tokens, options.kind)
        unseen = [asked for asked in pool if asked.body["model"] != "sees"]
        texts = pool if options.kind != "answers" else make_pool(models, pictures, 8, options.tokens, "texts")
        del models
        with ServerProcess(options.llama, adapters, folder / "log", "--rows", str(options.clients)) as server:
            idle = server.watch()
            load(server, pool, 1, 2)  # what is computed with the first request, such as features, counts for neither
            alone = rows["one at a time"] = load(server, pool, 1, options.seconds / 2)
            stop = threading.Event()
            watcher = threading.Thread(target=lambda: [server.watch() for _ in iter(lambda: stop.wait(0.1), True)])
            watcher.start()
            together = rows[f"{options.clients} clients"] = load(server, pool, options.clients, options.seconds)
            stop.set()
            watcher.join()
            if not options.no_peft:
                rows[NO_PICTURES] = load(server, unseen, options.clients, options.seconds)
            accepted, whole, status = end_amid(server, texts, options.clients)
        if not options.no_peft:
            rows[PEFT] = load_peft(options.llama, adapters, unseen, options.clients, options.seconds)
    print(f"{options.llama}, {options.kind}, {options.pool} different requests, texts of {options.tokens} tokens")
    print(f"{'':20}{'requests':>9}{'a second':>10}{'p50 s':>8}{'p95 s':>8}{'wrong':>7}")
    for name, met in rows.items():
        p50, p95 = statistics.median(met.seconds), statistics.quantiles(met.seconds, n=20)[-1]
        print(f"{name:20}{len(met.seconds):9,}{met.rate:10.2f}{p50:8.2f}{p95:8.2f}{met.wrong:7}")
    ratio, memory = together.rate / alone.rate, server.peak / idle
    print(f"throughput x {ratio:.2f}; memory {idle / 1e6:,.0f} MB when loaded, {server.peak / 1e6:,.0f} MB at most")
    print(f"SIGTERM amid {accepted} streams: {whole} whole, exit status {status}")
    wrong = sum(met.wrong for name, met in rows.items() if name != PEFT)
    bars = [
        bar("answers unlike those of a model in process", wrong, 0, wrong == 0),
        bar(f"throughput of {options.clients} clients over one, {options.kind}", ratio, SPEED, ratio >= SPEED),
        bar("peak memory over that when loaded", memory, MEMORY, memory <= MEMORY),
        bar("accepted streams cut off by SIGTERM", accepted - whole, 0, whole == accepted and status == 0),
    ]
    if not options.no_peft:
        over = rows[NO_PICTURES].rate / rows[PEFT].rate
        print(f"without pictures x {over:.2f} of PEFT's behind FastAPI")
        bars += [
            bar("answers of PEFT's server unlike those", rows[PEFT].wrong, 0, rows[PEFT].wrong == 0),
            bar("throughput without pictures over PEFT's server", over, RIVAL, over >= RIVAL),
        ]
    if options.json is not None:
        write_bars(options.json, bars)
    return 0 if all(found["holds"] for found in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
