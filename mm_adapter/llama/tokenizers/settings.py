"""Tokenizers of Hugging Face folders that say more than their vocabulary: names, flags and tokens that were added.

Beside ``tokenizer.json``, what ``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json`` mean is
decided by ``transformers`` itself, which is imported here alone. Of a ``tokenizer.model``, see ``pieces.py``.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, refuse_pointer
from mm_adapter.llama.tokenizers.tokenizer import SETTINGS_FILES, FastTokenizer, choose_end

_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_USUAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class FolderSettings:
    """What a folder says of its tokenizer beside the vocabulary.

    Args:
        folder: of the model.

    Attributes:
        values: ``tokenizer_config.json``, else ``special_tokens_map.json``; the class perhaps of ``config.json``.
        names: role of a special token -> its text; an empty one, as early conversions have it, is no name.
        empty: roles whose name is empty.
        added: text of a token -> its ``id`` and perhaps ``special``, ``lstrip``, ``rstrip``, ``single_word``.

    Raises:
        UserError: a file is not JSON, or an added token has no whole number as its id.
    """

    def __init__(self, folder: Path) -> None:
        config, special, added = (_object(folder / name) for name in SETTINGS_FILES)
        self.folder = folder
        self.values = special | config
        named = _object(folder / "config.json").get("tokenizer_class")
        if named is not None:
            self.values.setdefault("tokenizer_class", named)
        texts = {role: _text(self.values[role]) for role in _NAMES if self.values.get(role) is not None}
        self.names = {role: text for role, text in texts.items() if text}
        self.empty = [role for role, text in texts.items() if text == ""]
        self.added: dict[str, dict[str, Any]] = {text: {"id": number} for text, number in added.items()}
        listed = self.values.get("added_tokens_decoder") or {}
        for number, token in listed.items() if isinstance(listed, dict) else ():
            said = token if isinstance(token, dict) else {"content": token}
            self.added[str(_text(said))] = {**said, "id": int(number) if str(number).isdecimal() else number}
        wrong = [text for text, said in self.added.items() if type(said["id"]) is not int or said["id"] < 0 or not text]
        if wrong:
            raise UserError(f"{folder}: the added token {wrong[0]!r} has no text, or no whole number as its id.")

    @property
    def says_nothing(self) -> bool:
        """Whether the files of the settings are empty."""
        return not self.values and not self.added

    def flag(self, name: str) -> bool | None:
        """Return a setting that is true, false or unsaid."""
        value = self.values.get(name)
        if value is not None and type(value) is not bool:
            raise UserError(f"{self.folder / SETTINGS_FILES[0]}: {name} is {value!r}; it must be true or false.")
        return value

    def further_names(self) -> list[str]:
        """Return the texts of special tokens that have no role of their own."""
        found: list[str] = []
        for key in ("additional_special_tokens", "extra_special_tokens"):
            listed = self.values.get(key) or []
            listed = list(listed.values()) if isinstance(listed, dict) else listed
            found += [text for text in map(_text, listed if isinstance(listed, list) else []) if text]
        return found


def about_versions(folder: Path, tokenizer: Any) -> str | None:
    """Return a line for a person where versions 4 and 5 of ``transformers`` give other ids; None where they agree."""
    flag, file = FolderSettings(folder).flag("add_bos_token"), folder / "tokenizer.json"
    if not file.is_file():
        if getattr(tokenizer, "normalizes", False):
            return (
                "tokenizer.model normalises text, as transformers 4 does; 5 with LlamaTokenizer does not; here as in 4"
            )
        if flag is not None or not tokenizer.begin:
            return None
        return "begins as tokenizer.model says and transformers 4 does; 5 begins with nothing without add_bos_token"
    if flag is not None and flag != bool(tokenizer.begin):
        return f"add_bos_token {str(flag).lower()} beside tokenizer.json is obeyed by transformers 4 and ignored by 5"
    stored, read = json.loads(file.read_text(encoding="utf-8")), json.loads(tokenizer.backend.to_str())
    if any(stored.get(step) != read.get(step) for step in ("normalizer", "pre_tokenizer")):
        return "transformers 5 splits text as its tokenizer_class does, 4 as tokenizer.json says; here as in 5"
    return None


def _object(path: Path) -> dict[str, Any]:
    values = read_json(path, "settings of the tokenizer") if path.is_file() else {}
    return values if isinstance(values, dict) else {}


def _text(token: Any) -> str | None:
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def read_by_transformers(settings: FolderSettings, end_tokens: Sequence[int]) -> FastTokenizer:
    """Return the tokenizer of a folder with ``tokenizer.json``, as ``AutoTokenizer`` reads it.

    Args:
        end_tokens: of the model's configuration, used where nothing names the end.

    Raises:
        UserError: the library cannot read it or is missing, or the tokenizer is none of the ``tokenizers`` library.
    """
    folder = settings.folder
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UserError(f"{folder}: its tokenizer needs the package transformers ({error}); install it.") from error
    # An empty name sends the library astray, and so does one without "__type"; the usual one and its text are meant.
    names = {role: _USUAL[role] for role in settings.empty if role in _USUAL}
    names |= {role: text for role, text in settings.names.items() if isinstance(settings.values[role], dict)}
    try:
        with _quiet():
            library = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **names)
            backend: Backend = library.backend_tokenizer
    except Exception as error:  # the library lets through whatever a malformed file leads it to
        refuse_pointer(folder / "tokenizer.json")
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{folder / 'tokenizer.json'}: not a tokenizer that transformers reads ({reason}).") from error
    backend.no_truncation()
    backend.no_padding()
    end = choose_end(folder / "tokenizer.json", library.eos_token_id, end_tokens, backend)
    begin = [token for token in backend.encode("", add_special_tokens=True).ids if token != end]
    special = {role: str(text) for role, text in library.special_tokens_map.items() if isinstance(text, str)}
    return FastTokenizer(backend, begin, end, special)


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def with_names(settings: FolderSettings, ranks: FastTokenizer) -> FastTokenizer:
    """Return Llama 3's tokenizer with the begin and end that its folder names.

    Args:
        ranks: read from ``tokenizer.model``.

    Raises:
        UserError: the folder names a token that is none of Llama 3's, or gives it another id.
    """
    for text, said in settings.added.items():
        if ranks.special_id(text) != said["id"]:
            raise UserError(
                f"{settings.folder}: the token {text!r} is {said['id']} by its settings and {ranks.special_id(text)} "
                "among the special tokens of Llama 3. Use a folder with tokenizer.json."
            )
    missing = [text for text in (*settings.names.values(), *settings.further_names()) if ranks.special_id(text) is None]
    if missing:
        raise UserError(
            f"{settings.folder}: the token {missing[0]!r} is none of Llama 3's. Use one with tokenizer.json."
        )
    begin, end = (ranks.special_id(settings.names.get(role, "")) for role in ("bos_token", "eos_token"))
    first = ranks.begin if begin is None else (begin,)
    return FastTokenizer(
        ranks.backend, () if settings.flag("add_bos_token") is False else first, ranks.end if end is None else end
    )
