"""Convert pickle weights to safetensors once: the opt-in way, `--allow-pickle`.

A pickle is a program. It never runs in this process: a child without the parent's environment
reads it with torch's restricted loader, within bounds of time and memory, and passes back one line.
Not covered: the child runs as the same user; a hole in torch's loader would be a hole here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from potstill.bundle.foreign_weights import (
    PICKLE_FILE,
    PICKLE_INDEX_FILE,
    no_safetensors,
    recognize,
)
from potstill.bundle.weights import INDEX_FILE, WEIGHTS_FILE, find_weights, read_index
from potstill.errors import (
    MissingExtraError,
    ModelError,
    OutOfMemory,
    OutputError,
    PotstillError,
    RunError,
    StorageError,
)
from potstill.files import (
    folder_whole_or_absent,
    require_free,
    sha256_of_file,
    told_in_one_line,
)

_TIMEOUT_S = 1800.0  # BERT-large takes seconds; a slow network disk takes minutes
# What the tensors take over: once as loaded, twice where bfloat16 is widened, and one to spare.
_MEMORY_PER_FILE_BYTE = 4
_SPARE_MEMORY_BYTES = 2**30

# What the child may know of the environment: where programs and libraries lie, no secrets.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT", "LANG")
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from potstill.bundle import pickle_child as c; "
_CHILD += "sys.exit(c.main())"
_PASSED_ON = {kind.__name__: kind for kind in (ModelError, OutOfMemory, OutputError, StorageError)}
_PICKLE_OPENINGS = (b"PK", b"\x80")
_COPIED = ("*.json", "*.txt", "*.model", "README.md", "LICENSE*", "[0-9]_*/config.json")


def convert_pickles(folder: Path, *, into: Path, timeout_s: float = _TIMEOUT_S) -> Path:
    """Write a copy of a model folder with `model.safetensors` for its `pytorch_model.bin`.

    Args:
        folder: a model folder with `pytorch_model.bin`, or its shards and index.
        into: the folder to write, absent or empty; whole or absent afterwards.
        timeout_s: after so long the child is killed.

    Returns:
        `into`.

    Raises:
        ModelError: no such weights, damaged ones, or a pickle that wants to do more than hold
            tensors.
        MissingExtraError: torch is not installed.
        OutputError: `into` is not empty or cannot be written.
        OutOfMemory, StorageError, RunError: memory, disk or time ran out.
    """
    require_free(into)
    pickles = find_pickles(folder)
    for file in pickles:
        _require_pickle(file)
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", extra="train", needed_for="--allow-pickle")
    with folder_whole_or_absent(into) as staging:
        _copy_the_rest(folder, staging)
        _run_child(pickles, staging, timeout_s)
        find_weights(staging)
    return into


def find_pickles(folder: Path) -> list[Path]:
    """Return the pickle weights of a folder: one file, or the shards that its index names.

    Raises:
        ModelError: there are none, or a shard is missing.
    """
    single, index = folder / PICKLE_FILE, folder / PICKLE_INDEX_FILE
    if single.is_file():
        return [single]
    if not index.is_file():
        raise _nothing_to_convert(folder)
    files = [index.with_name(shard) for shard in sorted(set(read_index(index).values()))]
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"the index names {file.name}, which is missing",
                where=str(index),
                cure="download or copy the whole folder again",
            )
    return files


def hashes_of_sources(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a folder that a converted copy is made of, by its name.

    Raises:
        ModelError: there are no pickles, a shard is missing, or a file cannot be read.
    """
    hashes = {}
    for file in sorted({*find_pickles(folder), *_taken_along(folder)}):
        try:
            hashes[file.relative_to(folder).as_posix()] = sha256_of_file(file)
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", where=str(file)) from error
    return hashes


def _nothing_to_convert(folder: Path) -> ModelError:
    if (folder / WEIGHTS_FILE).exists() or (folder / INDEX_FILE).exists():
        return ModelError(
            "the folder holds safetensors already", where=str(folder), cure="drop --allow-pickle"
        )
    return no_safetensors(folder)


def _require_pickle(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            opening = stream.read(32)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(file)) from error
    if not opening.startswith(_PICKLE_OPENINGS) and (foreign := recognize(opening)):
        raise ModelError(f"this is {foreign.what}", where=str(file), cure=foreign.cure)


def _taken_along(folder: Path) -> list[Path]:
    """Return the files beside the weights that belong to the model."""
    found = (file for pattern in _COPIED for file in sorted(folder.glob(pattern)))
    return [file for file in found if file.is_file() and file.name != PICKLE_INDEX_FILE]


def _copy_the_rest(folder: Path, staging: Path) -> None:
    for file in _taken_along(folder):
        target = staging / file.relative_to(folder)
        with told_in_one_line(target):
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)


def _run_child(pickles: list[Path], staging: Path, timeout_s: float) -> None:
    request = {
        "pickles": [str(file.absolute()) for file in pickles],
        "into": str(staging.absolute()),
        "memory_bytes": _memory_bytes(pickles),
    }
    # -I: no start-up files, no user's variables, and the current folder is no place for modules
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    try:
        done = subprocess.run(  # noqa: S603 (this Python, our own module)
            [sys.executable, "-I", "-c", _CHILD, *paths],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"the pickle was not converted within {timeout_s:g} s; the converter was stopped",
            where=str(pickles[0]),
            cure="try again on a faster disk, or get the model as safetensors",
        ) from error
    if done.returncode != 0:
        raise _error_of(done, pickles[0])


def _memory_bytes(pickles: list[Path]) -> int:
    sizes = sum(file.stat().st_size for file in pickles)
    return _SPARE_MEMORY_BYTES + _MEMORY_PER_FILE_BYTE * sizes


def _error_of(done: subprocess.CompletedProcess[bytes], pickle: Path) -> PotstillError:
    """Return the child's error; what it says is text to show, nothing more."""
    told = _last_object(done.stdout)
    kind = _PASSED_ON.get(str(told.get("kind")))
    if kind is not None:
        parts = {key: _shown(told[key]) for key in ("where", "allowed", "cure") if told.get(key)}
        return kind(_shown(told.get("what")), **parts)
    if done.returncode == -signal.SIGKILL:
        return OutOfMemory(
            "the converter was killed by the system, as it does when memory runs out",
            where=str(pickle),
            cure="convert it on a machine with more memory",
        )
    last_line = _shown(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return RunError(
        f"the converter ended with status {done.returncode}: {last_line or 'it said nothing'}",
        where=str(pickle),
        cure="the file may be damaged or hostile: get the model as safetensors",
    )


def _last_object(output: bytes) -> dict[str, object]:
    try:
        told = json.loads(output.strip().rpartition(b"\n")[2])
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _shown(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:400])
