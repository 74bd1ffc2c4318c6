"""Who trains in ``benchmark_training.py``: this package, and PEFT's adaption prompt on transformers."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.scoring.batching import OptionBatch, collate
from mm_adapter.scoring.likelihoods import lower_states, padded_by_question, ranking_loss, score_options

SHAPE = LlamaConfig(49152, 576, 30, 9, 3, 64, 1536, 2048, 1e-5, 100000.0, tied_embeddings=True)
PROMPT_LENGTH, IMAGE_SIZE = 10, 512


def right_only(question: EncodedQuestion) -> EncodedQuestion:
    """Return the question with its right answer as the only option: a plain sequence."""
    only = replace(question.question, options=(question.question.options[question.question.answer],), answer=0)
    return EncodedQuestion(only, question.prefix, (question.options[question.question.answer],), question.tail)


class Ours:
    """This package: packed options, logits of answer positions, fused attention; every question with a picture.

    Args:
        layers: that are adapted.
        dtype: of the frozen model.
        kept: the states below the adapter are kept by question from their first pass on.
    """

    def __init__(self, layers: int, dtype: torch.dtype, kept: bool = False) -> None:
        torch.manual_seed(0)
        self.llama = Llama(SHAPE).requires_grad_(False)
        torch.nn.init.normal_(self.llama.embedding.weight, std=0.02)
        self.llama.to(dtype)
        self.adapter = Adapter(AdapterConfig(layers, PROMPT_LENGTH, image_size=IMAGE_SIZE), SHAPE)
        self.optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=1e-3)
        self.states: dict[str, Tensor] | None = {} if kept else None

    def step(self, questions: list[EncodedQuestion], job: str) -> int:
        """Train one step; return the tokens that were run."""
        batch = collate(questions if job == "text" else [right_only(question) for question in questions])
        prefixes = list(self.adapter.prefixes(self.llama, torch.ones(len(questions), IMAGE_SIZE)))
        scores = score_options(self.llama, batch, prefixes, self._kept(batch), self.adapter.first_layer)
        loss = scores.language_loss if job != "text" else ranking_loss(scores.ranking_scores("mean"), batch)
        loss.mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return batch.tokens.numel()

    def _kept(self, batch: OptionBatch) -> Tensor | None:
        if self.states is None:
            return None
        if not all(pid in self.states for pid in batch.pids):
            found = lower_states(self.llama, batch, self.adapter.first_layer)[0]  # (N, D)
            self.states |= zip(batch.pids, found.split(list(batch.packing.lengths)), strict=True)
        return torch.cat([self.states[pid] for pid in batch.pids])[None]


class Peft:
    """PEFT's adaption prompt on transformers, used as their documentation shows; it sees no pictures."""

    def __init__(self, layers: int, dtype: torch.dtype) -> None:
        from peft import AdaptionPromptConfig, get_peft_model
        from transformers import LlamaConfig as Config
        from transformers import LlamaForCausalLM

        torch.manual_seed(0)
        config = Config(
            vocab_size=SHAPE.vocab_size,
            hidden_size=SHAPE.hidden_size,
            num_hidden_layers=SHAPE.num_layers,
            num_attention_heads=SHAPE.num_heads,
            num_key_value_heads=SHAPE.num_kv_heads,
            intermediate_size=SHAPE.intermediate_size,
            rms_norm_eps=SHAPE.norm_epsilon,
            tie_word_embeddings=True,
            use_cache=False,
        )
        settings = AdaptionPromptConfig(adapter_layers=layers, adapter_len=PROMPT_LENGTH, task_type="CAUSAL_LM")
        self.model = get_peft_model(LlamaForCausalLM(config).to(dtype), settings)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-3)

    def step(self, questions: list[EncodedQuestion], job: str) -> int:
        """Train one step; return the tokens that were run, padding included."""
        if job != "text":
            pairs = [(q.prefix, q.options[q.question.answer] + q.tail) for q in questions]
        else:
            pairs = [(q.prefix, option) for q in questions for option in q.options]
        width = max(len(prefix) + len(answer) for prefix, answer in pairs)
        # Ours does not feed the last token, which is only predicted; transformers shifts inside.
        tokens = torch.tensor(
            [[*prefix, *answer] + [0] * (width - len(prefix) - len(answer)) for prefix, answer in pairs]
        )
        labels = torch.tensor(
            [
                [-100] * len(prefix) + [*answer] + [-100] * (width - len(prefix) - len(answer))
                for prefix, answer in pairs
            ]
        )
        attention_mask = (torch.arange(width) < torch.tensor([len(p) + len(a) for p, a in pairs])[:, None]).long()
        if job != "text":
            loss = self.model(input_ids=tokens, attention_mask=attention_mask, labels=labels).loss
        else:
            logits = self.model(input_ids=tokens, attention_mask=attention_mask).logits[:, :-1]
            loss = self._ranking(logits, labels[:, 1:], questions)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return tokens.numel()

    def _ranking(self, logits: Tensor, labels: Tensor, questions: list[EncodedQuestion]) -> Tensor:
        losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none")
        scores = -losses.sum(1) / (labels >= 0).sum(1)
        batch = collate(questions, with_tail=False)
        return F.cross_entropy(padded_by_question(scores, batch), batch.answers)
