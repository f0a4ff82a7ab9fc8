"""Find the folder of a model: a local path as it is, a `hub:` name by download.

The only place that reaches for a network, and only for a name that says so. What is downloaded is
a list of the wanted, not of the unwanted: no pickle, no code, no second copy of the weights.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.bundle.foreign_weights import LOOKED_FOR, foreign_among
from potstill.errors import (
    MissingExtraError,
    ModelError,
    OutputError,
    PotstillError,
    StorageError,
)
from potstill.hub_names import PREFIX, is_hub

if TYPE_CHECKING:
    from types import ModuleType

# Patterns of names from the root of a repository. `*` would match a slash too, so each name is
# written out: `*.json` would fetch every checkpoint in every folder.
_WANTED = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "[0-9]_*/config.json",
    "potstill.json",
    "README.md",
    "LICENSE*",
)
# A bundle of ours names its runtime files; elsewhere such files are copies for other programs.
_MANIFEST = "potstill.json"
_RUNTIME_FILES = (
    *("openvino/*.xml", "openvino/*.bin", "openvino/last_layer.safetensors"),
    *("onnx/*.onnx", "onnx/last_layer.safetensors"),
)

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# No part begins with a dot or a minus: a revision becomes a path in the cache.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


def resolve(name_or_path: str | Path, *, revision: str | None = None) -> Path:
    """Return the folder of a model, downloaded first if the name begins with `hub:`.

    Args:
        name_or_path: a folder, or `hub:NAME`, `hub:ORGANIZATION/NAME`, either with `@REVISION`.
        revision: branch, tag or commit of a hub name; None: the one in the name, else "main".

    Raises:
        ModelError: no such folder; a name that the hub does not know, does not give out, or that
            holds no safetensors; no network and no copy in the cache.
        MissingExtraError: huggingface_hub is not installed.
        OutputError, StorageError: the cache cannot be written, or its disk is full.
    """
    text = str(name_or_path)
    if not is_hub(text):
        return _local(text, revision)
    name = _parse(text, revision)
    hub = _import_hub()
    with _told(name, hub):
        folder = _download(name.repository, name.revision, _WANTED, hub)
        if (folder / _MANIFEST).exists():
            # the commit, not the branch: it may have moved since
            return _download(name.repository, folder.name, (*_WANTED, *_RUNTIME_FILES), hub)
        if not any(folder.glob("*.safetensors")):
            raise _no_weights(folder, name, hub)
    return folder


@dataclass(frozen=True, slots=True)
class _Name:
    repository: str
    revision: str

    def __str__(self) -> str:
        suffix = "" if self.revision == "main" else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{suffix}"


def _local(text: str, revision: str | None) -> Path:
    folder = Path(text)
    if revision is not None:
        raise ModelError(
            f"the revision {revision} is asked for, but a local folder has none",
            where=text,
            cure=f"leave it out, or write {PREFIX}{text} for a name on the Hugging Face hub",
        )
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(
            "this is a file, not a model folder", where=text, cure="name the folder it lies in"
        )
    raise ModelError(
        "no such folder",
        where=text,
        cure=f"check the path; a name on the Hugging Face hub is written {PREFIX}NAME",
    )


def _parse(text: str, revision: str | None) -> _Name:
    repository, _, written = text.removeprefix(PREFIX).partition("@")
    if revision is not None and written and written != revision:
        raise ModelError(
            f"two revisions are asked for, {written} and {revision}",
            where=text,
            cure="leave one of them out",
        )
    name = _Name(repository, revision or written or "main")
    if not _REVISION.fullmatch(name.revision):
        raise ModelError(
            f"{name.revision!r} is no revision",
            where=text,
            allowed="a branch, a tag or a commit",
        )
    return name


def _import_hub() -> ModuleType:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when the library is imported
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingExtraError(
            "huggingface_hub", extra="hub", needed_for=f"a name that begins with {PREFIX}"
        ) from error
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True  # someone else imported it before
    return huggingface_hub


def _download(repository: str, revision: str, wanted: tuple[str, ...], hub: ModuleType) -> Path:
    folder = hub.snapshot_download(
        repository,
        revision=revision,
        allow_patterns=list(wanted),
        local_files_only=_is_offline(hub),
    )
    return Path(folder)


def _is_offline(hub: ModuleType) -> bool:
    # the library reads the variable only once, when it is imported
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return asked or bool(hub.constants.HF_HUB_OFFLINE)


def _no_weights(folder: Path, name: _Name, hub: ModuleType) -> ModelError:
    """Return the error of a repository without safetensors, by what it holds instead."""
    names: list[str] = []
    if not _is_offline(hub):
        names = hub.HfApi().list_repo_files(name.repository, revision=folder.name)
    what = "the repository holds no weights that can be read"
    cure = "name another model, or another @REVISION"
    # OpenVINO's .bin files are no pickles
    if found := foreign_among(file for file in names if not file.startswith("openvino/")):
        files, kind = found
        what = f"the repository holds {kind.what} ({', '.join(files[:3])}); it is not downloaded"
        cure = f"run 'hf download {name.repository} --local-dir FOLDER'; for FOLDER: {kind.cure}"
    return ModelError(what, where=str(name), allowed=LOOKED_FOR, cure=cure)


@contextlib.contextmanager
def _told(name: _Name, hub: ModuleType) -> Iterator[None]:
    """Turn whatever the download meets into one line of ours."""
    try:
        yield
    except PotstillError:
        raise
    except Exception as error:  # the library's own errors, its HTTP client's, the system's
        raise _error_of(error, name, hub) from error


def _error_of(error: Exception, name: _Name, hub: ModuleType) -> PotstillError:
    for kind, what, cure in _refusals(name, hub):
        if isinstance(error, kind):
            return ModelError(what, where=str(name), cure=cure)
    if isinstance(error, hub.errors.LocalEntryNotFoundError):
        return _unreachable(error, name, hub)
    cache = str(hub.constants.HF_HUB_CACHE)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return StorageError(
            f"cannot store {name}: {error.strerror}",
            where=cache,
            cure="free some space, or set HF_HOME to a folder on a larger disk",
        )
    if isinstance(error, PermissionError):
        return OutputError(
            f"cannot store {name}: {error.strerror}",
            where=cache,
            cure="set HF_HOME to a folder that you may write to",
        )
    return ModelError(
        f"the download failed: {type(error).__name__}: {_first_line(error)}",
        where=str(name),
        cure="run the same command again; files that arrived whole are kept",
    )


def _refusals(name: _Name, hub: ModuleType) -> tuple[tuple[type[Exception], str, str], ...]:
    """Return what the hub refuses: the library's error, what it means, what helps."""
    errors, page = hub.errors, f"{hub.constants.ENDPOINT}/{name.repository}"
    return (  # a gated repository is also one "not found" to the library: it comes first
        (
            errors.HFValidationError,
            f"{name.repository!r} is no name of a model on the hub",
            f"write {PREFIX}NAME or {PREFIX}ORGANIZATION/NAME, with @REVISION if need be",
        ),
        (
            errors.GatedRepoError,
            "the hub gives this model only to those who asked for it",
            f"ask at {page}, then run 'hf auth login' or set HF_TOKEN",
        ),
        (
            errors.RepositoryNotFoundError,
            "the hub has no such model, or it is private",
            "check the spelling; for a private one run 'hf auth login' or set HF_TOKEN",
        ),
        (
            errors.RevisionNotFoundError,
            f"the model has no revision {name.revision!r}",
            f"see its branches and tags at {page}",
        ),
    )


def _unreachable(error: Exception, name: _Name, hub: ModuleType) -> ModelError:
    if _is_offline(hub):
        return ModelError(
            "HF_HUB_OFFLINE is set, and the cache holds no whole copy of this model",
            where=str(name),
            cure="run once without HF_HUB_OFFLINE, or name a local folder",
        )
    cause = error.__cause__ or error
    return ModelError(
        f"the hub cannot be reached, and the cache holds no whole copy of this model: "
        f"{type(cause).__name__}: {_first_line(cause)}",
        where=str(name),
        cure="check the network and HF_ENDPOINT, or name a local folder",
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
