"""Tokenizers of Hugging Face folders in the layouts that the world has, made by the libraries that define them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sentencepiece
from llama_files import write_tiktoken
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES = ["the cat sat on the mat", "a hen has feathers", "user asks assistant", "12 345 numbers", "héllo wörld"] * 20
MARKS = {"<|im_start|>": 340, "<|im_end|>": 341}
CONFIG = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CHAT = (
    "{{ bos_token }}{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% if turn.role == 'assistant' %}{% generation %}{{ turn['content'] | trim }}{% endgeneration %}"
    "{% else %}{{ turn | tojson }}{{ turn.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{{ strftime_now('%Y') }}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_pieces(folder: Path, normalization_rule_name: str = "identity") -> None:
    """A ``tokenizer.model`` with the settings of LLaMA's: 340 pieces, bytes where a letter is none of them."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name=normalization_rule_name,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )


def byte_level(begins: bool) -> Tokenizer:
    """A ``tokenizer.json`` of GPT-2's kind with two chat marks, perhaps with a begin token."""
    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", *MARKS]
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(LINES, trainer)
    return _beginning(backend, 0) if begins else backend


def metaspace() -> Tokenizer:
    """A ``tokenizer.json`` of LLaMA 2's kind: spaces are letters, a text begins with one."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    after = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(after)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    backend.train_from_iterator(LINES, trainer)
    values = json.loads(backend.to_str())
    # Bytes are pieces like any other, not text that is looked for.
    values["added_tokens"] = [token for token in values["added_tokens"] if not token["content"].startswith("<0x")]
    return _beginning(Tokenizer.from_str(json.dumps(values)), 1)


def _beginning(backend: Tokenizer, token: int) -> Tokenizer:
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", token)]
    )
    return backend


def added(content: str, **flags: bool) -> dict[str, Any]:
    """A token as ``added_tokens_decoder`` writes it."""
    usual = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": content, **usual, **flags}


LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
DECODER = {"340": added("<|im_start|>"), "341": added("<|im_end|>", rstrip=True, special=False)}
# Vocabulary and files of settings: 8 beside tokenizer.json, 12 beside tokenizer.model, one of Llama 3's ranks.
FAST: dict[str, tuple[Tokenizer, Mapping[str, Any]]] = {
    "alone": (byte_level(False), {}),
    "alone-begins": (byte_level(True), {}),
    "gpt2-class": (byte_level(False), {"tokenizer_config": {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>"}}),
    "flag-against-file": (byte_level(True), {"tokenizer_config": {"bos_token": "<s>", "add_bos_token": False}}),
    "chat-end": (byte_level(True), {"tokenizer_config": {"bos_token": "<s>", "eos_token": "<|im_end|>"}}),
    "llama-class": (metaspace(), {"tokenizer_config": {**LLAMA, "add_bos_token": True}}),
    "llama-legacy": (
        metaspace(),
        {"tokenizer_config": {**LLAMA, "legacy": True}, "special_tokens_map": {"pad_token": "<pad>"}},
    ),
    "added": (
        metaspace(),
        {"added_tokens": MARKS, "tokenizer_config": LLAMA, "special_tokens_map": {"eos_token": "<|im_end|>"}},
    ),
}
PIECES: dict[str, Mapping[str, Any]] = {
    "alone": {},
    "named": {"tokenizer_config": {"bos_token": "<s>", "eos_token": "</s>"}},
    "llama-class": {"tokenizer_config": LLAMA},
    "legacy": {"tokenizer_config": {**LLAMA, "legacy": True}},
    "not-legacy": {"tokenizer_config": {**LLAMA, "legacy": False}},
    "no-begin": {"tokenizer_config": {**LLAMA, "add_bos_token": False}},
    "begin-and-end": {"tokenizer_config": {**LLAMA, "add_bos_token": True, "add_eos_token": True}},
    "no-prefix-space": {"tokenizer_config": {**LLAMA, "add_prefix_space": False}},
    "added": {"added_tokens": MARKS},
    "added-and-ends": {"added_tokens": MARKS, "tokenizer_config": {**LLAMA, "eos_token": "<|im_end|>"}},
    "decoder": {"tokenizer_config": {**LLAMA, "added_tokens_decoder": DECODER}},
    "map": {"special_tokens_map": {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>"}},
}


def write_settings(folder: Path, files: Mapping[str, Any], **config: Any) -> Path:
    """The files of settings and ``config.json``."""
    for name, values in {**files, "config": CONFIG | config}.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def write_layout(folder: Path, kind: str, name: str) -> Path:
    """A folder of one layout, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "pieces":
        write_pieces(folder)
        return write_settings(folder, PIECES[name])
    if kind == "ranks":
        write_tiktoken(folder / "tokenizer.model")
        return write_settings(folder, {})
    backend, files = FAST[name]
    backend.save(str(folder / "tokenizer.json"))
    return write_settings(folder, files)
