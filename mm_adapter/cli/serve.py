"""``mm-adapter serve``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mm_adapter.cli.asking_options import AskingOptions
from mm_adapter.cli.options import Count, Device, Value, whole
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import DEFAULT_LLAMA, check_place, read_json
from mm_adapter.serving.address import check_address, listen, token_of_environment

EXAMPLES = (
    "mm-adapter serve --adapter runs/first --open",
    "mm-adapter serve --adapter physics=runs/physics --adapter maps=runs/maps --port 8080",
    "MM_ADAPTER_TOKEN=secret mm-adapter serve --adapter runs/first --host 0.0.0.0",
)
NOTES = (
    "The page to ask on is at the server's address: drop a picture, ask, compare adapters, turn their gates.",
    "Speaks OpenAI's protocol (/v1/chat/completions, /v1/completions, /v1/models), answers questions with options "
    "(/v1/answer), and ends by SIGTERM or Ctrl-C when all that was accepted is answered.",
)


def serve(
    *,
    adapter: Annotated[
        tuple[str, ...],
        Parameter(
            help="Serve the adapter of this run folder under a name, by default the folder's; can be given several "
            "times. The model without one is base.",
        ),
        Value("NAME=FOLDER"),
    ] = (),
    llama: Annotated[
        str | None,
        Parameter(help="Use this base model; by default the one of the first adapter."),
        Value("NAME|PATH"),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Parameter(help="Hold frozen weights in this precision.")
    ] = "float32",
    device: Device = "cpu",
    quantization: Annotated[
        Literal["none", "int8", "int4", "blocks"],
        Parameter(help="Hold frozen matrices smaller, for more time; blocks: as they lie in a GGUF file."),
    ] = "none",
    host: Annotated[
        str,
        Parameter(
            help="Listen on this address; another than this machine's own needs the token in MM_ADAPTER_TOKEN, which "
            "requests must bring."
        ),
        Value("ADDRESS"),
    ] = "127.0.0.1",
    port: Annotated[
        int, Parameter(converter=whole, validator=Number(gte=0, lte=65535), help="Listen on this port; 0: a free one.")
    ] = 8000,
    queue: Annotated[Count, Parameter(help="Let this many requests wait; further ones are told to come back.")] = 256,
    rows: Annotated[Count, Parameter(help="Write this many texts at a time.")] = 32,
    seconds: Annotated[
        float, Parameter(validator=Number(gt=0), help="Give up a request that is not done within this many seconds.")
    ] = 120.0,
    max_new_tokens: Annotated[Count, Parameter(help="Let a request ask for this many tokens at most.")] = 1024,
    open_page: Annotated[
        bool, Parameter(name="--open", negative="", help="Open the page to ask on in the browser.")
    ] = False,
    asking: AskingOptions = AskingOptions(),  # noqa: B008 - frozen
) -> None:
    """Serve a base model and adapters over HTTP."""
    # Before torch is imported: a typing error costs no time.
    folders = _named(adapter)
    for folder in folders.values():
        read_json(folder / "adapter_config.json", "adapter configuration")
    if llama is not None:
        check_place(llama, [DEFAULT_LLAMA])
    token = token_of_environment()
    check_address(host, token)
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise UserError(f"serve needs {package}; run pip install 'mm-adapter[serve]'.")
    # The address is held before the models are loaded: that takes time, and may be in vain.
    with listen(host, port) as socket:
        from mm_adapter.serving.engine import Engine
        from mm_adapter.serving.limits import Limits
        from mm_adapter.serving.loading import load_models
        from mm_adapter.serving.run_server import make_server

        limits = Limits(queue=queue, rows=rows, seconds=seconds, new_tokens=max_new_tokens)
        prompting = asking.prompting() if asking.chosen() else None
        models = load_models(llama, folders, dtype, device, quantization, prompting)
        server = make_server(Engine(models, limits), host, port, token)
        server.open_page = open_page
        server.run(sockets=[socket])


def _named(adapters: tuple[str, ...]) -> dict[str, Path]:
    """Return name -> folder.

    Raises:
        UserError: a name or a folder is missing, or a name stands twice.
    """
    found: dict[str, Path] = {}
    for text in adapters:
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = Path(text).resolve().name, text
        if not name or not folder:
            raise UserError(f"--adapter is {text!r}; write NAME=FOLDER, or a FOLDER alone.")
        if name in found:
            raise UserError(f"--adapter {name!r} is there twice; give each adapter a name of its own.")
        found[name] = Path(folder)
    return found
