"""The model card: README.md of a bundle, for people and for the hub."""

from __future__ import annotations

from typing import Any

from potstill.architectures.config import EncoderConfig
from potstill.architectures.counting import count_parameters
from potstill.architectures.heads import HeadSpec, hf_class_name
from potstill.bundle.manifest import Manifest

_PIPELINE_TAGS = {
    "classification": "text-classification",
    "multi-label": "text-classification",
    "regression": "text-classification",
    "ranking": "text-ranking",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "masked-lm": "fill-mask",
    "embedding": "sentence-similarity",
}

_LIBRARIES = {"openvino": ("OpenVINO", "cpu"), "onnx": ("ONNX Runtime", "onnx")}


def model_card(
    config: EncoderConfig, head: HeadSpec, manifest: Manifest, *, has_weights: bool = True
) -> str:
    """Return the card as Markdown with the hub's header."""
    task = manifest.task or "bare encoder"
    header = ["---", "tags: [potstill]"]
    if task in _PIPELINE_TAGS:
        header.append(f"pipeline_tag: {_PIPELINE_TAGS[task]}")
    header.append("---")
    facts = [
        f"| task | {task} |",
        f"| family | {config.family} |",
        f"| layers x width, heads | {config.layers} x {config.hidden_size}, {config.heads} |",
        f"| parameters | {count_parameters(config, head):,} |",
        f"| longest text | {manifest.max_length or config.max_length} tokens |",
    ]
    if manifest.long_texts is not None:
        facts.append(f"| longer texts | {_how_longer_ones_are_read(manifest)} |")
    if head.labels:
        facts.append(f"| labels | {', '.join(head.labels)} |")
    if manifest.thresholds:  # who loads the folder with another library has to apply them
        levels = [f"{name} {level:.4g}" for name, level in manifest.thresholds.items()]
        facts.append(f"| thresholds, chosen on dev rows | {', '.join(levels)} |")
    sections = [
        "\n".join(header),
        "# A potstill model",
        "| | |\n|---|---|\n" + "\n".join(facts),
        "## Load it\n\n"
        + _how_to_load(
            config, head, has_weights=has_weights, engine=str(manifest.engine.get("name"))
        ),
        *_notes("Lineage", manifest.lineage),
        *_notes("Measurements", manifest.measurements),
    ]
    return "\n\n".join(sections) + "\n"


def _how_longer_ones_are_read(manifest: Manifest) -> str:
    if not manifest.overlap:
        return "cut"
    return f"read in windows that share {manifest.overlap} tokens"


def _how_to_load(config: EncoderConfig, head: HeadSpec, *, has_weights: bool, engine: str) -> str:
    ours = '```python\nimport potstill\n\nmodel = potstill.load("this/folder")\n```'
    if not has_weights:
        library, extra = _LIBRARIES.get(engine, _LIBRARIES["openvino"])
        return ours + (
            f"\n\nThe folder holds a quantized graph for {library} (`pip install "
            f"'potstill[{extra}]'`) and no weights: transformers finds its config and tokenizer "
            "alone."
        )
    if head.is_mean_classifier:
        return ours + (
            "\n\nThe classifier reads the mean of all positions, a form that transformers does not "
            "have: `AutoModel` loads the encoder, but not the classifier."
        )
    if head.kind == "embedding":  # the encoder alone would give no vector of a text
        return f'{ours}\n\nor `sentence_transformers.SentenceTransformer("this/folder")`.'
    name = hf_class_name(config.family, head)
    return f'{ours}\n\nor `transformers.{name}.from_pretrained("this/folder")`.'


def _notes(title: str, content: Any) -> list[str]:
    if not content:
        return []
    lines = "\n".join(f"- {key}: {value}" for key, value in content.items())
    return [f"## {title}\n\n{lines}"]
