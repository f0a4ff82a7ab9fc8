"""Texts to ids through the Rust library `tokenizers`; what is cut off is counted and told."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing

from potstill.errors import DataError, ModelError, RecipeError
from potstill.files import told_in_one_line, write_atomically
from potstill.text.encoded import Encoded, Wanted, encode
from potstill.text.ragged import Int32
from potstill.text.tokenizer_export import exported_files
from potstill.text.tokenizer_settings import limit_told

__all__ = ["Encoded", "Tokenizer", "set_prefix_space"]

_PARALLELISM = "TOKENIZERS_PARALLELISM"
_BLANKS = "ĠĊĉ▁"  # blank, line end and tab as byte-level vocabularies write them; SentencePiece's


class Tokenizer:
    """A vocabulary and its rules; gives the same ids as transformers.

    `load_tokenizer` in tokenizer_files makes one from a model folder. Encoding changes no state:
    several threads may share one tokenizer.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        special_tokens: Mapping[str, str],
        uses_token_types: bool,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Take over `backend`; truncation and padding that its file asks for are switched off.

        Args:
            backend: the Rust tokenizer.
            special_tokens: "cls_token" and its like to the token; cls, sep and pad are needed.
            uses_token_types: the model tells the segments of a pair apart (BERT).
            config: the content of tokenizer_config.json.
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._special_tokens = dict(special_tokens)
        self._config = dict(config or {})
        self.uses_token_types = uses_token_types
        _allow_parallelism()

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        with_offsets: bool = False,
    ) -> Encoded:
        """Turn texts, or pairs of texts, into tokens with the special ones around them.

        Args:
            texts: B texts.
            pairs: B second texts, the other halves of the pairs.
            max_length: tokens that a row may have, special ones included; the longer half of a
                pair is cut first. None: nothing is cut.
            with_offsets: also tell `offsets` and `sequence_index`.

        Raises:
            DataError: a text that is no string or holds a lone surrogate, with its index.
            RecipeError: `max_length` leaves no room beside the special tokens.
        """
        firsts = _strings(texts, name="texts")
        seconds = [] if pairs is None else _strings(pairs, name="pairs")
        wanted = Wanted(
            token_types=pairs is not None and self.uses_token_types,
            words=False,
            offsets=with_offsets,
            max_length=self._checked_length(max_length, pairs=pairs is not None),
            cut_left=self._cuts_left,
        )
        inputs = firsts if pairs is None else _zipped(firsts, seconds)
        try:
            return encode(self._backend, inputs, wanted)
        except TypeError:  # the library refuses a batch without saying which text
            _refuse_lone_surrogates(firsts, name="texts")
            _refuse_lone_surrogates(seconds, name="pairs")
            raise

    def encode_words(
        self,
        rows: Sequence[Sequence[str]],
        *,
        max_length: int | None = None,
        with_offsets: bool = False,
    ) -> Encoded:
        """Turn rows of words into tokens, and tell for each token its word (`word_index`).

        `offsets` count from the start of the word. A word may give no token (a lone control
        character). A byte-level vocabulary gets a blank before every word, since it knows most
        words only so.

        Raises:
            DataError: a row that is no list of strings, or a lone surrogate, with its index.
            RecipeError: `max_length` leaves no room beside the special tokens.
        """
        inputs = [_strings(row, name=f"rows[{index}]") for index, row in enumerate(rows)]
        wanted = Wanted(
            token_types=False,
            words=True,
            offsets=with_offsets,
            max_length=self._checked_length(max_length, pairs=False),
            cut_left=self._cuts_left,
        )
        try:
            return encode(self._backend_of_words, inputs, wanted)
        except TypeError:
            for index, row in enumerate(inputs):
                _refuse_lone_surrogates(row, name=f"rows[{index}]")
            raise

    def decode(self, ids: Sequence[int] | Int32, *, skip_special_tokens: bool = True) -> str:
        """Turn ids back into text; case and blanks that the rules dropped do not come back."""
        plain_ids = [int(token) for token in ids]
        return self._backend.decode(plain_ids, skip_special_tokens=skip_special_tokens)

    def id_to_token(self, token_id: int) -> str:
        """Return the token of an id."""
        token = self._backend.id_to_token(int(token_id))
        assert token is not None, f"id {token_id} is outside the vocabulary: this is a bug"
        return token

    @functools.cached_property
    def vocabulary_size(self) -> int:
        """Return the rows that a word table needs: one more than the largest id."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values())

    @property
    def pad_id(self) -> int:
        """Return the id that fills up short rows."""
        return self._id_of("pad_token")

    @property
    def cls_id(self) -> int:
        """Return the id before every text."""
        return self._id_of("cls_token")

    @property
    def sep_id(self) -> int:
        """Return the id after every text."""
        return self._id_of("sep_token")

    @property
    def mask_id(self) -> int:
        """Return the id of a hidden token; ModelError if the vocabulary has none."""
        return self._id_of("mask_token")

    @property
    def unk_id(self) -> int:
        """Return the id of what cannot be told; ModelError if the vocabulary has none."""
        return self._id_of("unk_token")

    @functools.cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Return the ids of all special tokens, in rising order."""
        named = {self._id_of(name) for name in self._special_tokens}
        added = self._backend.get_added_tokens_decoder()
        return tuple(sorted(named | {index for index, token in added.items() if token.special}))

    def continues_word(self) -> NDArray[np.bool_]:
        """Return which tokens go on with the word before them, (V,).

        WordPiece marks them with "##"; other kinds mark the beginnings of words instead, and what
        is no letter or digit (a comma) belongs to no word there.
        """
        continues = np.zeros(self.vocabulary_size, dtype=bool)
        is_wordpiece = isinstance(self._backend.model, WordPiece)
        for token, index in self._backend.get_vocab(with_added_tokens=False).items():
            if is_wordpiece:
                continues[index] = token.startswith("##")
            else:
                continues[index] = token[:1].isalnum() and token[0] not in _BLANKS
        continues[list(self.special_ids)] = False
        return continues

    @property
    def max_length(self) -> int | None:
        """Return the tokens that tokenizer_config.json allows; None if it sets no limit."""
        return limit_told(self._config)

    def canonical_bytes(self) -> bytes:
        """Return bytes that change whenever what a model is given could, for a fingerprint."""
        settings = {
            "special_tokens": self._special_tokens,
            "max_length": self.max_length,
            "cuts_left": self._cuts_left,
            "uses_token_types": self.uses_token_types,
        }
        return "\n".join([self._backend.to_str(), json.dumps(settings, sort_keys=True)]).encode()

    def id_bytes(self) -> bytes:
        """Return bytes that change whenever the id of a word could.

        A BERT and the DistilBERT made of it share them, though only one of them has token types.
        """
        settings = {"special_tokens": self._special_tokens}
        return "\n".join([self._backend.to_str(), json.dumps(settings, sort_keys=True)]).encode()

    def save(self, folder: Path, *, longest: int | None = None) -> None:
        """Write the files from which this project and transformers load the same tokenizer.

        Args:
            folder: is made where it is absent.
            longest: tokens that the model beside it reads; a lower limit is raised to it.

        Raises:
            OutputError: the folder cannot be written.
            StorageError: the disk is full.
        """
        with told_in_one_line(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files = exported_files(
            self._backend,
            special_tokens=self._special_tokens,
            config=self._config_allowing(longest),
            uses_token_types=self.uses_token_types,
        )
        for name, content in files.items():
            write_atomically(folder / name, content.encode())

    def _config_allowing(self, tokens: int | None) -> dict[str, Any]:
        limit = self.max_length
        is_short = tokens is not None and limit is not None and limit < tokens
        return self._config | {"model_max_length": tokens} if is_short else self._config

    @property
    def _cuts_left(self) -> bool:
        return bool(self._config.get("truncation_side") == "left")

    @functools.cached_property
    def _backend_of_words(self) -> tokenizers.Tokenizer:
        splitter = self._backend.pre_tokenizer
        if not isinstance(splitter, ByteLevel) or splitter.add_prefix_space:
            return self._backend
        spaced = tokenizers.Tokenizer.from_str(self._backend.to_str())
        set_prefix_space(spaced, wanted=True)
        return spaced

    def _id_of(self, name: str) -> int:
        token = self._special_tokens.get(name)
        index = None if token is None else self._backend.token_to_id(token)
        if index is None:
            raise ModelError(
                f"the tokenizer has no {name}", cure=f"name the {name} in tokenizer_config.json"
            )
        return index

    def _checked_length(self, max_length: int | None, *, pairs: bool) -> int | None:
        special = self._backend.num_special_tokens_to_add(pairs)
        if max_length is not None and max_length <= special:
            raise RecipeError(
                f"max_length is {max_length}, but {special} special tokens stand in each row",
                allowed=f"at least {special + 1}",
            )
        return max_length


def set_prefix_space(backend: tokenizers.Tokenizer, *, wanted: bool) -> None:
    """Say whether a byte-level tokenizer puts a blank before a text."""
    splitter, frame = backend.pre_tokenizer, backend.post_processor
    if isinstance(splitter, ByteLevel):
        splitter.add_prefix_space = wanted
        backend.pre_tokenizer = splitter
    if isinstance(frame, RobertaProcessing):
        frame.add_prefix_space = wanted
        backend.post_processor = frame


def _strings(texts: Sequence[str], *, name: str) -> list[str]:
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise DataError(
            f"{name} is of type {type(texts).__name__}",
            allowed="a list of strings",
            cure="put a single text into a list: [text]",
        )
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise DataError(
                f"{text!r:.40} is of type {type(text).__name__}",
                where=f"{name}[{index}]",
                allowed="a string",
            )
    return listed


def _zipped(texts: list[str], pairs: list[str]) -> list[tuple[str, str]]:
    if len(texts) != len(pairs):
        raise DataError(
            f"there are {len(texts)} texts and {len(pairs)} pairs",
            allowed="one second text for each text",
        )
    return list(zip(texts, pairs, strict=True))


def _refuse_lone_surrogates(texts: Sequence[str], *, name: str) -> None:
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"character {error.start} is the lone surrogate {text[error.start]!r}",
                where=f"{name}[{index}]",
                allowed="text that UTF-8 can hold",
                cure="text.encode(errors='replace').decode()",
            ) from None


def _allow_parallelism() -> None:
    """Encode batches on all cores; in a forked child, whose threads are gone, on one.

    Where the variable is unset, the library warns at every fork; where it is on, a child hangs.
    """
    if _PARALLELISM in os.environ:
        return
    os.environ[_PARALLELISM] = "true"
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forbid_parallelism)


def _forbid_parallelism() -> None:
    os.environ[_PARALLELISM] = "false"
