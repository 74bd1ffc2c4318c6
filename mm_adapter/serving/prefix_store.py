"""The prefixes of an adapter and a picture, kept for the requests that come with the same two again."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from mm_adapter.adapter.attention import scale_gates
from mm_adapter.llama.model import Prefixes
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.jobs import Job, Picture

Key = TypeVar("Key")
Kept = TypeVar("Kept")
_PREFIXES, _FEATURES = 128, 512  # that are kept, the last ones used


class PrefixStore:
    """Looks at a picture once, whatever is asked about it, by whichever adapter that sees as the first one does.

    Args:
        models: by name.
    """

    def __init__(self, models: Mapping[str, MultimodalLlama]) -> None:
        self._models = models
        self._prefixes: OrderedDict[tuple[str, str], Prefixes] = OrderedDict()
        self._features: OrderedDict[tuple[int, str], Tensor] = OrderedDict()

    def model(self, name: str) -> MultimodalLlama:
        """Return a model by its name."""
        return self._models[name]

    @torch.no_grad()
    def prefixes(self, job: Job) -> Prefixes | None:
        """Return the prefixes of a request's one sample, their gates as it wants them; None of the base model.

        Raises:
            UserError: the model takes no pictures.
        """
        name, picture = job.model, job.picture
        model = self._models[name]
        key = name, "" if picture is None else picture.key
        if key not in self._prefixes:
            found = model.prefixes(None if picture is None else self.features(name, picture))
            if found is None:
                return None
            self._prefixes[key] = found
        return scale_gates(_recent(self._prefixes, key, _PREFIXES), job.gate_scale)

    @torch.no_grad()
    def features(self, name: str, picture: Picture) -> Tensor:
        """Return the features ``(1, F)`` or ``(1, T, E)`` of a picture as a model sees it.

        Raises:
            UserError: it takes no pictures.
        """
        key = self._seer(name), picture.key
        if key not in self._features:
            found = self._models[name].image_features(picture.content)
            key = self._seer(name), picture.key  # a tower that is loaded with its first picture is known only now
            self._features[key] = found
        return _recent(self._features, key, _FEATURES)

    def _seer(self, name: str) -> int:
        """Return what is the same for models that share a tower; a model without one is its own."""
        model = self._models[name]
        return id(getattr(model, "_tower", None) or model)


def _recent(store: "OrderedDict[Key, Kept]", key: Key, size: int) -> Kept:
    store.move_to_end(key)
    while len(store) > size:
        store.popitem(last=False)
    return store[key]
