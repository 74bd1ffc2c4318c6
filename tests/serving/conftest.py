"""A server on loopback in this process: a tiny base and adapters of several kinds with gates that matter."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.templates import Prompting
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.address import listen
from mm_adapter.serving.engine import Engine
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.loading import load_models
from mm_adapter.serving.run_server import make_server
from mm_adapter.vision import ImageTower, VisionConfig

_SEEING = ("shared", "tiles", "query")
SAVED = Path(__file__).resolve().parent.parent / "saved"
FOLDERS = {"sees": SAVED / "pictures", "letters": SAVED / "text", "talks": SAVED / "conversations"}


@pytest.fixture(scope="session")
def models() -> dict[str, MultimodalLlama]:
    """``sees`` and ``letters`` were trained on questions, ``talks`` on conversations; ``base`` is without adapter."""
    found = load_models(str(SAVED / "llama"), FOLDERS)
    for number, model in enumerate(found.values()):
        if model.adapter is not None and model.adapter.gates is not None:
            generator = torch.Generator().manual_seed(number)
            with torch.no_grad():
                model.adapter.gates.copy_(2 * torch.randn(model.adapter.gates.shape, generator=generator))
    return found


@pytest.fixture(scope="session")
def towers() -> dict[str, ImageTower]:
    """A tower that gives global features of five tiles, and one that gives tokens."""
    return {
        "global": ImageTower(VisionConfig(depths=1, views=("1x1", "2x2"))),
        "tokens": ImageTower(VisionConfig(views=("own",), output="tokens")),
    }


@pytest.fixture(scope="session")
def ways(towers: dict[str, ImageTower]) -> dict[str, MultimodalLlama]:
    """Adapters that see in each way, one of text alone, one without gates, one that tunes weights, and the base."""
    base = load_llama(str(SAVED / "llama"))
    models = {"base": MultimodalLlama(base)}
    shapes: dict[str, dict[str, Any]] = {
        "text": {},
        "joined": {"attention": "random-init"},
        "tuned": {"biases": True},
        "explains": {},
    }
    for way in _SEEING:
        tower = towers["tokens" if way == "query" else "global"]
        shapes[way] = {"image_size": tower.feature_size, "bottleneck": 4, "image_prompts": way}
        shapes[way] |= {"image_pieces": tower.pieces} if way == "tiles" else {}
        shapes[way] |= {"query_width": 8, "query_blocks": 2, "query_heads": 2, "query_inner": 8}
    for seed, (name, changes) in enumerate(shapes.items()):
        adapter = Adapter(AdapterConfig(2, 3, **changes), base.model.config, seed=seed).requires_grad_(False)
        for gates in (adapter.gates, adapter.image_gates):
            if gates is not None:
                gates.copy_(2 * torch.randn(gates.shape, generator=torch.Generator().manual_seed(seed)))
        tower = towers["tokens" if name == "query" else "global"] if name in _SEEING else None
        prompting = Prompting()
        if name == "explains":
            prompting = Prompting("QCM-A", "letter", "solution", explanation_place="before")
        vision = None if tower is None else tower.config
        models[name] = MultimodalLlama(base, adapter, vision, prompting, tower=tower)
    return models


class Running:
    """A server that runs, and clients of it.

    Attributes:
        engine: that computes.
        url: where it is asked.
        http: a plain client.
        openai: the official client of the protocol.
    """

    def __init__(self, engine: Engine, port: int, token: str | None) -> None:
        self.engine, self.url = engine, f"http://127.0.0.1:{port}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=60)
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key=token or "none", max_retries=0, timeout=60)

    def figures(self) -> dict[str, float]:
        """Return the server's figures by name and labels."""
        lines = [
            line.rsplit(" ", 1) for line in self.http.get("/metrics").text.splitlines() if not line.startswith("#")
        ]
        return {name: float(value) for name, value in lines}


@contextmanager
def running(models: dict[str, MultimodalLlama], limits: Limits, token: str | None) -> Iterator[Running]:
    """Serve models within the block."""
    engine = Engine(models, limits)
    with listen("127.0.0.1", 0) as socket:
        server = make_server(engine, token=token)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        try:
            yield Running(engine, socket.getsockname()[1], token)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
            assert engine.waiting == engine.rows == 0


@pytest.fixture(scope="session")
def server(models: dict[str, MultimodalLlama]) -> Iterator[Running]:
    """A server with its usual bounds."""
    with running(models, Limits(), None) as found:
        yield found


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """Return a function that serves any models: ``with serving(models) as server:``."""
    return lambda models, token=None, **bounds: running(models, Limits(**bounds), token)


@pytest.fixture
def serve(models: dict[str, MultimodalLlama]) -> Callable[..., object]:
    """Return a function that serves with other bounds: ``with serve(queue=1) as server:``."""

    def start(token: str | None = None, **bounds: float) -> object:
        return running(models, Limits(**bounds), token)  # type: ignore[arg-type]

    return start


@pytest.fixture(scope="session")
def picture(demo_folder: Path) -> Path:
    """A picture of the generated set."""
    return sorted((demo_folder / "images" / "test").glob("*/image.png"))[0]
