"""What is no safetensors: other files of weights, folders of them, and the way out of each case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from potstill.errors import ModelError

PICKLE_FILE = "pytorch_model.bin"
PICKLE_INDEX_FILE = "pytorch_model.bin.index.json"

LOOKED_FOR = "model.safetensors, or model.safetensors.index.json with its shards"
_SAVE_AGAIN = "load the model where it was made and save it with model.save_pretrained(FOLDER)"
_OLD_TRANSFORMERS = "convert it once with transformers below 5: from_pretrained(FOLDER, {}=True)"

# What a training run of transformers leaves beside the weights: pickles, but no weights.
_TRAINER_STATE = ("training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*")


@dataclass(frozen=True, slots=True)
class Foreign:
    """One kind of file that stands where safetensors were expected."""

    marks: tuple[str, ...]  # patterns of its name, or the beginnings of its content
    what: str
    cure: str


_BY_NAME = (  # the first that matches is told
    Foreign(
        ("openvino/*.xml", "openvino_model.xml"),
        "only a graph for OpenVINO",
        "name the folder that it was made of; OpenVINO runs an exported graph by itself, and a "
        "quantized bundle of potstill needs its potstill.json",
    ),
    Foreign(
        ("*.safetensors",),
        "only safetensors files under other names",
        "rename the file of the whole model to model.safetensors; merge an adapter first",
    ),
    Foreign(
        ("pytorch_model*.bin",),
        "only pickle weights, and a pickle can run any code when it is loaded",
        "--allow-pickle converts them once to safetensors, in a separate process",
    ),
    Foreign(
        ("tf_model*.h5", "*.ckpt.index"),
        "only TensorFlow weights",
        _OLD_TRANSFORMERS.format("from_tf"),
    ),
    Foreign(("flax_model*.msgpack",), "only Flax weights", _OLD_TRANSFORMERS.format("from_flax")),
    Foreign(
        ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl"),
        "only pickle files of an unknown layout, and a pickle can run any code when it is loaded",
        _SAVE_AGAIN,
    ),
    Foreign(
        ("*.onnx",),
        "only an ONNX graph",
        "name the folder that it was exported from, or let ONNX Runtime run the graph by itself: "
        "docs/engines.md shows how",
    ),
    Foreign(("*.gguf",), "only GGUF weights", "name the folder that they were converted from"),
)


_BY_CONTENT = (
    Foreign(
        ("version https://git-lfs",),
        "a Git LFS pointer, not the weights themselves",
        "run 'git lfs install' and 'git lfs pull' in that folder",
    ),
    Foreign(
        ("PK\x03\x04", "\x80\x02\x8a\x0a"),
        "a PyTorch pickle under a wrong name",
        f"rename it to {PICKLE_FILE}; --allow-pickle then converts it once to safetensors",
    ),
    Foreign(("<",), "a web page, as a failed download leaves it", "download the file again"),
    Foreign(("{",), "a JSON text, as a failed download leaves it", "download the file again"),
)


def recognize(opening: bytes) -> Foreign | None:
    """Return what a file is that begins with these bytes, if it is a known foreign kind."""
    text = opening.decode("latin-1")  # one character a byte
    return next((kind for kind in _BY_CONTENT if text.startswith(kind.marks)), None)


def no_safetensors(folder: Path) -> ModelError:
    """Return the error of a folder without safetensors: what was looked for, what was found."""
    try:
        names = sorted(file.name for file in folder.iterdir())
        graphs = [*folder.glob("onnx/*.onnx"), *folder.glob("openvino/*.xml")]
    except OSError as error:
        return ModelError(
            f"no model folder: {error.strerror}",
            where=str(folder),
            cure="check the path; a name on the Hugging Face hub is written hub:NAME",
        )
    what, cure = "there are no weights in this folder", "name the folder of a trained model"
    if found := foreign_among([*names, *(file.relative_to(folder).as_posix() for file in graphs)]):
        files, kind = found
        what, cure = f"the folder holds {kind.what} ({', '.join(files[:3])})", kind.cure
    return ModelError(what, where=str(folder), allowed=LOOKED_FOR, cure=cure)


def foreign_among(names: Iterable[str]) -> tuple[list[str], Foreign] | None:
    """Return the files of weights among the names, with their kind; None if there are none."""
    weights = [name for name in names if not _matches(name, _TRAINER_STATE)]
    for kind in _BY_NAME:
        if files := [name for name in weights if _matches(name, kind.marks)]:
            return files, kind
    return None


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
