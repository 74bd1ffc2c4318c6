"""Where the answer to a request looks."""

from collections.abc import Sequence
from dataclasses import replace

from mm_adapter.core.images import open_image
from mm_adapter.inference.prompt_look import PromptLook, look_at_picture, look_at_prompts
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.jobs import Job
from mm_adapter.serving.prefix_store import PrefixStore


def look(model: MultimodalLlama, store: PrefixStore, job: Job, ids: Sequence[int]) -> PromptLook:
    """Return where the answer that is predicted from the last of ``ids`` looks.

    Raises:
        UserError: the model takes no picture.
    """
    assert model.adapter is not None, "such a request is refused before it waits"
    found = look_at_prompts(model.llama, model.adapter.first_layer, store.prefixes(job) or (), ids)
    if job.picture is None:
        return found
    features = store.features(job.model, job.picture)
    size = open_image(job.picture.content).size
    return replace(found, picture=look_at_picture(found, model.adapter, model.tower, features, size))
