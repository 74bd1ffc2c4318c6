"""A ``tokenizer.model`` of SentencePiece beside which a Hugging Face folder names and adds tokens.

SentencePiece encodes what stands between those tokens; the flags are those of version 5 of ``transformers``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.llama.tokenizers.settings import FolderSettings
from mm_adapter.llama.tokenizers.tokenizer import SentencePieceTokenizer

# Appended to a model: of a field of protocol buffers that stands twice the last one counts, here that of
# normalizer_spec.add_dummy_prefix, so text is encoded without a space before it.
_NO_SPACE = b"\x1a\x02\x18\x00"
_LIGATURE = "\ufb01"  # NFKC makes two letters of it
_LLAMA = ("LlamaTokenizer", "LlamaTokenizerFast")
# "LLaMATokenizer" is how the first conversions spelled it, before the class had its name.
_PLAIN = (None, "LLaMATokenizer", "PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")


class PiecesAndTokens(SentencePieceTokenizer):
    """A ``tokenizer.model`` of SentencePiece and the tokens that a folder adds to it.

    Text is cut at special and added tokens, each of which is one id; what lies between them is SentencePiece's. The
    class ``LlamaTokenizer`` puts a space before the text alone (``legacy``: before every part), and none before a
    space; without a class, every part gets one, as SentencePiece does it.

    Attributes:
        normalizes: SentencePiece writes text otherwise first, which the class in version 5 of the library leaves out.

    Raises:
        UserError: the model is damaged, a token has no id, or a setting is not supported.
    """

    def __init__(self, settings: FolderSettings) -> None:
        path = settings.folder / "tokenizer.model"
        kind = settings.values.get("tokenizer_class")
        super().__init__(path)
        refused = [key for key in ("split_special_tokens", "sp_model_kwargs") if settings.values.get(key)]
        refused += [] if kind in (*_LLAMA, *_PLAIN) else [f"tokenizer_class {kind!r}"]
        if refused:
            raise UserError(f"{settings.folder}: {refused[0]} is not supported beside tokenizer.model.")
        pieces = {self.backend.id_to_piece(token): token for token in range(self.backend.vocab_size())}
        self._tokens = _token_ids(settings, pieces, self._special_pieces())
        self.controls = tuple(self._tokens)
        self._texts = {token: text for text, token in self._tokens.items()}
        self._special = {
            self._tokens[text] for text in self._tokens if settings.added.get(text, {}).get("special", True)
        }
        self._is_llama = kind in _LLAMA
        always = not self._is_llama or settings.flag("legacy") is True
        never = self._is_llama and settings.flag("add_prefix_space") is False
        self.normalizes = self._is_llama and _LIGATURE not in self.backend.normalize(_LIGATURE)
        self._spaces = "never" if never else "always" if always else "first"
        self._bare = type(self.backend)(model_proto=self.backend.serialized_model_proto() + _NO_SPACE)
        self._pattern = re.compile(
            "|".join(_pattern(text, settings.added.get(text, {})) for text in _longest(self._tokens))
        )
        proto = {
            "bos_token": self.backend.bos_id(),
            "eos_token": self.backend.eos_id(),
            "unk_token": self.backend.unk_id(),
        }
        pieces_by_role = {role: self.backend.id_to_piece(token) for role, token in proto.items() if token >= 0}
        self.names = pieces_by_role | settings.names
        named = {role: self._tokens[text] for role, text in settings.names.items()}
        self.end = named.get("eos_token", self.end)
        first = named.get("bos_token", self.backend.bos_id())
        self.begin = (first,) if first >= 0 and settings.flag("add_bos_token") is not False else ()
        self.vocab_size = 1 + max(self.backend.vocab_size() - 1, *self._tokens.values())

    def _special_pieces(self) -> list[str]:
        model = self.backend
        return [
            model.id_to_piece(id) for id in range(model.vocab_size()) if model.is_control(id) or model.is_unknown(id)
        ]

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` alone, no special tokens added."""
        return self._encode(text, self._spaces != "never")

    def encode_continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as it goes on after other text."""
        return self._encode(text, False)

    def _encode(self, text: str, first_space: bool) -> list[int]:
        ids: list[int] = []
        place = 0
        for match in (*self._pattern.finditer(text), None):
            part = text[place:] if match is None else text[place : match.start()]
            space = first_space if place == 0 else self._spaces == "always"
            space = space and not (self._is_llama and part[:1] in (" ", "▁"))
            ids += (self.backend if space else self._bare).encode(part)
            if match is not None:
                ids.append(self._tokens[match[0].strip()] if match[0] not in self._tokens else self._tokens[match[0]])
                place = match.end()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        parts: list[list[int] | str] = [[]]
        for token in ids:
            if token in self._texts and token not in self._special:
                parts += [self._texts[token], []]
            elif token not in self._special and isinstance(parts[-1], list):
                parts[-1].append(token)
        return "".join(part if isinstance(part, str) else self.backend.decode(part) for part in parts)

    def special_id(self, text: str) -> int | None:
        """Return the id of the token that is spelled ``text``, or None where there is none."""
        return self._tokens.get(text, super().special_id(text))

    def piece(self, token: int) -> str:
        """Return how the token with an id is spelled in the vocabulary."""
        return self._texts[token] if token in self._texts else super().piece(token)


def _token_ids(settings: FolderSettings, pieces: Mapping[str, int], special: Sequence[str]) -> dict[str, int]:
    """Return the tokens at which text is cut: text -> id."""
    found = {text: pieces[text] for text in special}
    for text, said in settings.added.items():
        if text in pieces and pieces[text] != said["id"]:
            raise UserError(
                f"{settings.folder}: the token {text!r} is {said['id']}, and {pieces[text]} in tokenizer.model."
            )
        if said.get("single_word"):
            raise UserError(f"{settings.folder}: the token {text!r} is a single_word, which is not supported.")
        found[text] = said["id"]
    if len(set(found.values())) < len(found) or any(
        token < len(pieces) and pieces.get(text) != token for text, token in found.items()
    ):
        raise UserError(f"{settings.folder}: two tokens have one id; the added tokens are those of another model.")
    for text in settings.further_names():
        if text not in found and text not in pieces:
            raise UserError(
                f"{settings.folder}: the special token {text!r} has no id, neither in tokenizer.model nor among the "
                "added tokens. Fetch added_tokens.json as well."
            )
        found.setdefault(text, pieces.get(text, -1))
    for text in settings.names.values():
        # One that is new to both gets the next id, as in transformers.
        found.setdefault(text, pieces.get(text, 1 + max(len(pieces) - 1, *found.values())))
    return found


def _longest(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)


def _pattern(text: str, said: Mapping[str, Any]) -> str:
    before, after = (r"\s*" if said.get(side) else "" for side in ("lstrip", "rstrip"))
    return f"{before}{re.escape(text)}{after}"
