"""GGUF files: every quantisation reads as the package dequantises it, both kinds of vocabulary, damage is named."""

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from llama_files import GGUF_NAMES, foreign_tensors, pieces_of, random_llama, to_interleaved, write_gguf

from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.checkpoints.source import interleaved_to_half_split

WRITTEN = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1]
PRECISION = {Kind.F32: 0.0, Kind.F16: 1e-3, Kind.BF16: 8e-3, Kind.Q8_0: 1e-2}


def test_rotary_layouts_are_inverse() -> None:
    """Reading undoes what writers of the format did to queries and keys."""
    weight = torch.arange(24.0).view(12, 2)
    assert torch.equal(interleaved_to_half_split(to_interleaved(weight, 2), 2), weight)


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.name)
def test_tensors_equal_the_package(tmp_path: Path, kind: Kind) -> None:
    """Each tensor is what ``gguf`` makes of quantising and dequantising it, and near the original."""
    model = random_llama(tied_embeddings=True)
    loaded = load_llama(str(write_gguf(tmp_path / "m.gguf", model, kind))).model.state_dict()
    stored = foreign_tensors(model, GGUF_NAMES, "blk")
    query = "blk.1.attn_q.weight"
    for name, own in (("token_embd.weight", "embedding.weight"), (query, "layers.1.attention.query.weight")):
        expected = torch.from_numpy(
            np.array(gguf.quants.dequantize(gguf.quants.quantize(stored[name].numpy(), kind), kind))
        )
        expected = interleaved_to_half_split(expected, 4) if name == query else expected
        assert torch.equal(loaded[own], expected)
    if kind in PRECISION:
        for name, tensor in model.state_dict().items():
            assert (loaded[name] - tensor).abs().max() <= PRECISION[kind] * tensor.abs().max()


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.Q2_K], ids=lambda kind: kind.name)
def test_kinds_that_the_package_only_reads(tmp_path: Path, kind: Kind) -> None:
    """K-quants, which most published files use, are read block by block as the package reads them."""
    model = random_llama(hidden_size=256, intermediate_size=256, head_dim=64, num_layers=1, vocab_size=48)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(0)
    tensors = foreign_tensors(model, GGUF_NAMES, "blk")
    # Bytes below 0x3c make finite half-precision scales of whatever block they stand in.
    raw = {
        name: generator.integers(0, 0x3C, (len(tensor), tensor.shape[1] // block * size), dtype=np.uint8)
        for name, tensor in tensors.items()
        if tensor.ndim == 2
    }
    loaded = load_llama(str(write_gguf(tmp_path / "m.gguf", model, kind, replace=raw))).model.state_dict()
    for name, own in (("ffn_down", "mlp.down"), ("attn_v", "attention.value")):
        expected = gguf.quants.dequantize(raw[f"blk.0.{name}.weight"], kind)
        assert np.array_equal(loaded[f"layers.0.{own}.weight"].numpy(), expected)


def test_a_kind_that_the_package_cannot_read(tmp_path: Path) -> None:
    """A tensor that nothing can dequantise is named, with its kind."""
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for field, number in {"head_count": 1, "embedding_length": 2, "block_count": 1, "feed_forward_length": 2}.items():
        getattr(writer, f"add_{field}")(number)
    writer.add_tensor("token_embd.weight", np.zeros((2, 2), dtype=np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"token_embd\.weight \(I32\) cannot be dequantised"):
        load_llama(str(path))


@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": True}, {"attention_bias": True}, {"rope_theta": 5e5}])
def test_logits_equal_the_model_that_was_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Names, rotary layout and configuration all survive the format."""
    model = random_llama(**changes)
    loaded = load_llama(str(write_gguf(tmp_path / "m.gguf", model))).model
    tokens = torch.arange(30).view(2, 15)
    assert (loaded(tokens) - model(tokens)).abs().max() < 1e-5
    assert loaded.config.context_length == 128


def test_a_folder_with_one_file(tmp_path: Path, plain_llama: Llama) -> None:
    """A folder that holds a single GGUF file stands for it; one with two does not."""
    write_gguf(tmp_path / "m.gguf", plain_llama)
    assert load_llama(str(tmp_path)).model.config.num_layers == 2
    (tmp_path / "n.gguf").write_bytes(b"")
    with pytest.raises(UserError, match=r"single \.gguf"):
        load_llama(str(tmp_path))


def test_same_weights_same_fingerprint(tmp_path: Path, plain_llama: Llama) -> None:
    """An adapter trained on a folder fits the GGUF of the same weights."""
    from llama_files import write_meta

    from_gguf = load_llama(str(write_gguf(tmp_path / "m.gguf", plain_llama)))
    assert load_llama(str(write_meta(tmp_path / "meta", plain_llama))).fingerprint == from_gguf.fingerprint


def test_missing_file(tmp_path: Path) -> None:
    """A path that is not there is not taken for a hub id."""
    with pytest.raises(UserError, match="no such"):
        load_llama(str(tmp_path / "absent.gguf"))


@pytest.mark.parametrize("keep", [0, 3, 4, 30, 400, 0.5, -1])
def test_truncated_file(tmp_path: Path, plain_llama: Llama, keep: float) -> None:
    """A file that was cut anywhere is refused by name."""
    path = write_gguf(tmp_path / "m.gguf", plain_llama)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else int(keep)])
    with pytest.raises(UserError, match=r"m\.gguf: (not a readable|the )"):
        load_llama(str(path))


def test_something_else_named_gguf(tmp_path: Path) -> None:
    """A web page saved under the model's name is refused."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"<html>" * 1000)
    with pytest.raises(UserError, match="not a readable GGUF"):
        load_llama(str(path))


def test_other_architecture(tmp_path: Path, plain_llama: Llama) -> None:
    """A GGUF of another family is refused by its name."""
    path = write_gguf(tmp_path / "m.gguf", plain_llama, architecture="qwen2")
    with pytest.raises(UserError, match="qwen2"):
        load_llama(str(path))


def test_rope_scaling_is_refused(tmp_path: Path, plain_llama: Llama) -> None:
    """A scaling that this decoder lacks would silently give other logits."""

    def scaled(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)

    with pytest.raises(UserError, match="scaling of type 'yarn'"):
        load_llama(str(write_gguf(tmp_path / "m.gguf", plain_llama, fill=scaled)))


def test_rope_factors_and_linear_scaling(tmp_path: Path, plain_llama: Llama) -> None:
    """Stored factors divide the frequencies pair by pair, a linear factor all of them alike."""
    factors = torch.linspace(1, 8, 8)

    def linear(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    plain = plain_llama.frequencies
    path = tmp_path / "m.gguf"
    found = load_llama(str(write_gguf(path, plain_llama, rope_factors=factors))).model
    assert torch.equal(found.frequencies, plain / factors)
    found = load_llama(str(write_gguf(path, plain_llama, fill=linear))).model
    assert torch.equal(found.frequencies, plain / 4)
    found = load_llama(str(write_gguf(path, plain_llama, fill=linear, rope_factors=factors))).model
    assert torch.allclose(found.frequencies, plain / (4 * factors))
    with pytest.raises(UserError, match=r"rope_freqs\.weight has shape \(3,\), expected \(8,\)"):
        load_llama(str(write_gguf(path, plain_llama, rope_factors=torch.ones(3))))


@pytest.mark.parametrize(
    ("key", "number", "message"),
    [
        ("expert_count", 8, "mixture of 8 experts"),
        ("rope.dimension_count", 8, "not a LLaMA"),
        ("attention.value_length", 8, "not a LLaMA"),
    ],
)
def test_relatives_under_the_same_name(tmp_path: Path, plain_llama: Llama, key: str, number: int, message: str) -> None:
    """Files of the llama architecture that are something else are refused by what they are."""
    path = write_gguf(tmp_path / "m.gguf", plain_llama, fill=lambda writer: writer.add_uint32(f"llama.{key}", number))
    with pytest.raises(UserError, match=message):
        load_llama(str(path))


def test_version_2(tmp_path: Path, plain_llama: Llama) -> None:
    """Version 2 has the same layout as 3; 1 and 4 are refused by number."""
    path = write_gguf(tmp_path / "m.gguf", plain_llama)
    content = path.read_bytes()
    for version in (2, 1, 4):
        path.write_bytes(content[:4] + struct.pack("<I", version) + content[8:])
        if version == 2:
            assert torch.equal(load_llama(str(path)).model.norm.weight, plain_llama.norm.weight)
        else:
            with pytest.raises(UserError, match=f"version {version}; 2 and 3"):
                load_llama(str(path))


def header(*parts: bytes) -> bytes:
    return b"GGUF" + struct.pack("<I", 3) + b"".join(parts)


HUGE = struct.pack("<Q", 1 << 60)
ONE, NAME = struct.pack("<Q", 1), struct.pack("<Q", 1) + b"a"


@pytest.mark.parametrize(
    "content",
    [
        header(HUGE, ONE),
        header(ONE, HUGE),
        header(ONE, ONE, HUGE),
        header(ONE, ONE, NAME, struct.pack("<I", 8), HUGE),
        header(ONE, ONE, NAME, struct.pack("<II", 9, 0), HUGE),
        header(ONE, ONE, NAME, struct.pack("<II", 9, 8), HUGE),
        header(ONE, ONE, NAME, struct.pack("<II", 9, 9), HUGE),
        header(ONE, bytes(8), NAME, struct.pack("<I", 1 << 31)),
        header(ONE, bytes(8), NAME, struct.pack("<I", 1), HUGE, struct.pack("<IQ", 0, 0)),
        header(ONE, bytes(8), NAME, struct.pack("<I", 1), ONE, struct.pack("<I", 0), HUGE),
    ],
)
def test_length_fields_of_a_quintillion(tmp_path: Path, content: bytes) -> None:
    """Counts, texts, lists, axes, sizes and offsets beyond the file are refused before anything is made of them."""
    path = tmp_path / "m.gguf"
    path.write_bytes(content + bytes(1 << 20))
    began = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(UserError, match="not a readable GGUF"):
        load_llama(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22
    assert time.perf_counter() - began < 1


def bare(path: Path, *fields: str) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name in fields:
        getattr(writer, f"add_{name}")(4)
    writer.add_tensor("other", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((), r"llama\.attention\.head_count"),
        (("head_count",), r"llama\.embedding_length"),
        (("head_count", "embedding_length"), r"token_embd\.weight"),
    ],
)
def test_missing_metadata(tmp_path: Path, fields: tuple[str, ...], message: str) -> None:
    """A key or tensor that nothing works without is named."""
    with pytest.raises(UserError, match=message):
        load_llama(str(bare(tmp_path / "m.gguf", *fields)))


@pytest.fixture(scope="module")
def piece_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A SentencePiece BPE model as LLaMA's: byte fallback, digits apart, nothing normalised."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("pieces")
    lines = [
        "the cat sat on the mat and the dog ran to the cat",
        "which of these animals has feathers? a hen has feathers",
        "Question: what is 12 times 34? Answer: 408",
        "light travels faster than sound through the air",
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 4),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


TEXTS = [
    "the cat sat on the mat",
    " leading and  double  spaces ",
    "Question: which of these has feathers?\nAnswer:",
    "12 + 34 = 46, 1,234.5",
    "naïve café — 漢字 😀",
    "tabs\tand\r\nreturns",
    "faster thansound thecatthe",
    "a",
    " ",
    "",
]


def test_sentence_piece_vocabulary(tmp_path: Path, piece_model: Any) -> None:
    """The vocabulary of LLaMA 1 and 2 in a GGUF gives the ids and text that SentencePiece gives."""
    path = write_gguf(tmp_path / "m.gguf", random_llama(vocab_size=340), fill=pieces_of(piece_model))
    tokenizer = load_llama(str(path)).tokenizer
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.end) == ((piece_model.bos_id(),), piece_model.eos_id())
    for text in TEXTS:
        assert tokenizer.encode(text) == piece_model.encode(text), text
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode([1, *tokenizer.encode("the cat"), 2]) == "the cat"


def test_bytes_that_are_no_letters(tmp_path: Path, piece_model: Any) -> None:
    """A model may write bytes in any order; they read as SentencePiece reads them, also among unknown pieces."""
    path = write_gguf(tmp_path / "m.gguf", random_llama(vocab_size=340), fill=pieces_of(piece_model))
    tokenizer = load_llama(str(path)).tokenizer
    assert tokenizer is not None
    ids = torch.randint(0, 340, (200, 12), generator=torch.Generator().manual_seed(0)).tolist()
    for row in ids:
        assert tokenizer.decode(row) == piece_model.decode(row), row


def byte_level(pre: str) -> tuple[Any, Callable[[gguf.GGUFWriter], None]]:
    """A byte-level BPE trained on a few lines, as a ``tokenizers`` object and as GGUF metadata."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]) if pre == "smollm" else plain
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=310,
        special_tokens=["<|endoftext|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the cat sat on the mat", "12 12 12 the 1234 feathers"] * 5, trainer)
    import json

    model = json.loads(backend.to_str())["model"]

    def fill(writer: gguf.GGUFWriter) -> None:
        tokens = sorted(model["vocab"], key=model["vocab"].get)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
        writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
        writer.add_eos_token_id(0)
        writer.add_bos_token_id(1)

    return backend, fill


@pytest.mark.parametrize("pre", ["gpt-2", "smollm"])
def test_byte_level_vocabulary(tmp_path: Path, pre: str) -> None:
    """The vocabulary kind of SmolLM and GPT-2 splits words and digits as its name says; no begin token is added."""
    backend, fill = byte_level(pre)
    tokenizer = load_llama(str(write_gguf(tmp_path / "m.gguf", random_llama(), fill=fill))).tokenizer
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.end) == ((), 0)
    for text in [*TEXTS, "a<|endoftext|>b <|im_start|", "12the12"]:
        assert tokenizer.encode(text) == backend.encode(text).ids, text
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("<|endoftext|>", "")


def test_llama3_words_keep_digit_groups(tmp_path: Path) -> None:
    """Llama 3's splitting takes digits in threes and whole known words at once."""
    _, fill = byte_level("llama-bpe")

    def with_begin(writer: gguf.GGUFWriter) -> None:
        fill(writer)
        writer.add_add_bos_token(True)

    tokenizer = load_llama(str(write_gguf(tmp_path / "m.gguf", random_llama(), fill=with_begin))).tokenizer
    assert tokenizer is not None
    assert tokenizer.begin == (1,)
    assert [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS] == TEXTS
    assert len(tokenizer.encode("1212")) < 4


def test_smaug_splits_as_llama3(tmp_path: Path) -> None:
    """llama.cpp's smaug-bpe is Llama 3's splitting; its sequences begin with nothing unless the file says so."""
    tokenizers = []
    for pre in ("llama-bpe", "smaug-bpe"):
        _, fill = byte_level(pre)
        tokenizers.append(load_llama(str(write_gguf(tmp_path / f"{pre}.gguf", random_llama(), fill=fill))).tokenizer)
    assert tokenizers[0] is not None
    assert tokenizers[1] is not None
    assert [tokenizer.begin for tokenizer in tokenizers] == [(1,), ()]
    for text in [*TEXTS, "12345 don't", "the  feathers\n\n12"]:
        assert tokenizers[1].encode(text) == tokenizers[0].encode(text)


def test_file_without_vocabulary(tmp_path: Path, plain_llama: Llama) -> None:
    """Without a vocabulary the model loads; text is another matter."""
    assert load_llama(str(write_gguf(tmp_path / "m.gguf", plain_llama))).tokenizer is None


def kind_of(name: str, *tokens: Any) -> Callable[[gguf.GGUFWriter], None]:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model(name)
        writer.add_array("tokenizer.ggml.tokens", list(tokens or ("a", "b")))

    return fill


def uneven(writer: gguf.GGUFWriter) -> None:
    kind_of("llama")(writer)
    writer.add_token_types([1])


def strange_words(writer: gguf.GGUFWriter) -> None:
    kind_of("gpt2")(writer)
    writer.add_tokenizer_pre("strange")


def too_many(writer: gguf.GGUFWriter) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{index}" for index in range(400)])
    writer.add_eos_token_id(0)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (kind_of("bert"), "bert"),
        (uneven, "token_type has 1 items for 2 tokens"),
        (kind_of("gpt2", 7), "tokens is not a list of str"),
        (strange_words, "strange"),
        (kind_of("llama"), "eos_token_id is missing"),
        (too_many, "400 tokens, the embedding 320"),
    ],
)
def test_vocabularies_that_are_refused(
    tmp_path: Path, plain_llama: Llama, fill: Callable[..., None], message: str
) -> None:
    """A vocabulary that would give wrong ids is refused instead."""
    with pytest.raises(UserError, match=message):
        load_llama(str(write_gguf(tmp_path / "m.gguf", plain_llama, fill=fill)))
