"""A server on loopback in this process: a tiny base and adapters of several kinds with gates that matter."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
import torch

from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.address import listen
from mm_adapter.serving.engine import Engine
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.loading import load_models
from mm_adapter.serving.run_server import make_server

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
def serve_models() -> Callable[..., object]:
    """Return a function that serves models of one's own: ``with serve_models(models, Limits(), None) as server:``."""
    return running


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
