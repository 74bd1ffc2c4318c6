"""PEFT's adaption prompts on transformers' model behind FastAPI, one request at a time; our server is held against it.

    python scripts/peft_server.py --llama NAME [--adapter NAME=FOLDER] [--port N]

The route that a person writes who has such a model: it checks the body, waits for the model, computes, answers. Where
``FOLDER`` is an adapter of ours, ``FOLDER/peft`` is the same as ``mm-adapter convert --to peft`` writes it. Questions
are put to the model, and tokens made, by our code, so that both servers are asked the same; all else is PEFT's and
transformers': the options of a question are a batch, of which only the logits of the options are computed, and texts
are written by ``generate`` with its cache.
"""

import argparse
import contextlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mm_adapter.core.files import SMOLLM2_135M, fetch
from mm_adapter.data.encoding import encode_question
from mm_adapter.data.question import Question
from mm_adapter.inference.answer import chosen_option
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.loading import load_models
from mm_adapter.serving.run_server import Server
from mm_adapter.serving.schemas import AnswerRequest, CompletionRequest

CONVERTED = "peft"
"""Folder in that of an adapter of ours, with the same adapter as PEFT reads it."""


def load_rival(llama: str, adapters: dict[str, Path]) -> Any:
    """Return transformers' model in float32 with PEFT's adapters, none of which is in use where there are none.

    Args:
        llama: the default model, a GGUF file or a Hugging Face folder.
        adapters: name -> folder as PEFT reads it.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    path = fetch(SMOLLM2_135M) if llama == DEFAULT_LLAMA else Path(llama)
    where = {"gguf_file": path.name} if path.is_file() else {}
    folder = path.parent if path.is_file() else path
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where)
    for number, (name, converted) in enumerate(adapters.items()):
        if number:
            model.load_adapter(converted, name)
        else:
            model = PeftModel.from_pretrained(model, converted, name)
    return model.eval()


class Rival:
    """A model that is asked by one thread at a time.

    Args:
        model: of ``load_rival``.
        asked: name -> how that model is asked; only templates and tokens are taken from it.
    """

    def __init__(self, model: Any, asked: dict[str, MultimodalLlama]) -> None:
        self._model, self._asked = model, asked
        self._turn = threading.Lock()

    @torch.inference_mode()
    def write(self, name: str, prompt: str, tokens: int) -> str:
        """Return what the model writes after a text, always its likeliest token."""
        asked = self._asked[name]
        ids = torch.tensor([[*asked.tokenizer.begin, *asked.tokenizer.encode(prompt)]])
        ends = sorted(asked.end_tokens)
        with self._turn, self._adapter(name):
            found = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=ends[0],
            )
        written = found[0, ids.shape[1] :].tolist()
        return asked.tokenizer.decode([token for token in written if token not in ends])

    @torch.inference_mode()
    def choose(self, name: str, question: str, choices: Sequence[str], context: str) -> tuple[int, tuple[float, ...]]:
        """Return the likeliest of the choices, and the probabilities of all."""
        asked = self._asked[name]
        put = Question("0", question, tuple(choices), answer=-1, context=context)
        encoded = encode_question(put, asked.template, asked.tokenizer, asked.max_length)
        lengths = torch.tensor([len(option) for option in encoded.options])
        options = pad_sequence([torch.tensor(option) for option in encoded.options], batch_first=True)  # (O, T)
        prefix = torch.tensor(encoded.prefix).expand(len(options), -1)  # (O, P)
        real = torch.arange(options.shape[1]) < lengths[:, None]  # (O, T)
        mask = torch.cat((torch.ones_like(prefix), real), dim=1)
        with self._turn, self._adapter(name):
            logits: Tensor = self._model(
                input_ids=torch.cat((prefix, options), dim=1),
                attention_mask=mask,
                logits_to_keep=options.shape[1] + 1,
            ).logits[:, :-1]  # (O, T, V)
        found = logits.log_softmax(dim=-1).gather(-1, options[..., None])[..., 0]  # (O, T)
        scores = (found * real).sum(dim=1)
        answer = chosen_option(encoded, scores / lengths if asked.ranking == "mean" else scores)
        return answer.choice, answer.probabilities

    def _adapter(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Have the model compute with an adapter, or with none, for a while."""
        if name in getattr(self._model, "peft_config", {}):
            self._model.set_adapter(name)
            return contextlib.nullcontext()
        return self._model.disable_adapter() if hasattr(self._model, "peft_config") else contextlib.nullcontext()


def make_app(rival: Rival) -> FastAPI:
    """Return the two routes; each runs in a thread and waits there for the model."""
    app = FastAPI()

    @app.post("/v1/completions")
    def complete(asked: CompletionRequest) -> dict[str, Any]:
        return {"choices": [{"text": rival.write(asked.model, str(asked.prompts[0]), asked.max_tokens or 16)}]}

    @app.post("/v1/answer")
    def answer(asked: AnswerRequest) -> dict[str, Any]:
        name = asked.model or "base"
        index, probabilities = rival.choose(name, asked.question, asked.choices or (), asked.context or "")
        return {"index": index, "probabilities": probabilities}

    return app


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--llama", required=True, help="base model: the default one, a GGUF file or a folder")
    parser.add_argument("--adapter", action="append", default=[], help="name=folder of an adapter, with peft in it")
    parser.add_argument("--port", type=int, default=8000, help="of localhost; 0 for one that is free")
    options = parser.parse_args()
    adapters = {name: Path(folder) for name, _, folder in (one.partition("=") for one in options.adapter)}
    model = load_rival(options.llama, {name: folder / CONVERTED for name, folder in adapters.items()})
    rival = Rival(model, load_models(options.llama, adapters))
    Server(uvicorn.Config(make_app(rival), port=options.port, log_level="warning", access_log=False)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
