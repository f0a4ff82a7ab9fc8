"""What stands on an encoder: the kind of head, its labels and how a text becomes one vector.

Hugging Face's form is the default: [CLS] with a pooler and tanh (BERT), with `pre_classifier` and
ReLU (DistilBERT), with dense and tanh (RoBERTa). A mean-pooled classifier is potstill's alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from potstill.architectures.config import LARGEST_DROPOUT, Family
from potstill.errors import ModelError

HeadKind = Literal[
    "none", "classification", "token-classification", "question-answering", "masked-lm", "embedding"
]
Pooling = Literal["first", "mean"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")

_CLASS_PREFIX: Mapping[Family, str] = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}
_CLASS_SUFFIX: Mapping[HeadKind, str] = {
    "none": "Model",
    "classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "masked-lm": "ForMaskedLM",
    "embedding": "Model",  # what follows the encoder is sentence-transformers' matter
}
# Other classes that hold one of these heads; what they hold besides is known to be ignorable.
_CLASS_SYNONYMS: Mapping[str, HeadKind] = {
    "ForPreTraining": "masked-lm",
    "LMHeadModel": "masked-lm",
}
_MOST_LABELS = 1_000_000  # a name is made for each
# DistilBERT's head for tokens has no dropout of its own: it takes the encoder's.
_DISTILBERT_DROPOUTS: Mapping[HeadKind, str] = {
    "classification": "seq_classif_dropout",
    "question-answering": "qa_dropout",
}
# What transformers assumes where config.json is silent; else the encoder's.
_ASSUMED_DROPOUTS: Mapping[str | None, float] = {"seq_classif_dropout": 0.2, "qa_dropout": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """One head.

    Raises:
        ModelError: a pooling that the head cannot have.
    """

    kind: HeadKind = "none"
    labels: tuple[str, ...] = ()  # names of the C outputs, in order
    pooling: Pooling = "first"  # which positions a classifier reads
    dropout: float | None = None  # before the last layer; None: the encoder's
    problem: str | None = None  # Hugging Face's problem_type, None where not told
    normalize: bool = False  # of embeddings: vectors of length 1
    width: int | None = (
        None  # of embeddings: that of a dense map after pooling, None: there is none
    )

    def __post_init__(self) -> None:
        """Refuse what no network can be built for."""
        if self.pooling not in POOLINGS:
            raise ModelError(
                f"pooling is {self.pooling!r}", allowed=", ".join(POOLINGS), where="potstill.json"
            )

    @property
    def reads_first_position_only(self) -> bool:
        """Tell whether the last layer is needed at the first position only."""
        return self.kind in {"classification", "embedding"} and self.pooling == "first"

    @property
    def answers_whole_texts(self) -> bool:
        """Tell whether there is one output a text, not one a token."""
        return self.kind in {"classification", "embedding"}

    @property
    def answers_one_number(self) -> bool:
        """Tell whether the answer is one number, not a choice among classes."""
        return self.kind == "classification" and len(self.labels) == 1

    @property
    def is_mean_classifier(self) -> bool:
        """Tell whether this is the form that is potstill's alone."""
        return self.kind == "classification" and self.pooling == "mean"


def hf_class_name(family: Family, head: HeadSpec) -> str:
    """Return the transformers class that can hold the weights.

    A mean-pooled classifier has none: its folder names the bare encoder, which transformers loads
    without the head.
    """
    kind: HeadKind = "none" if head.is_mean_classifier else head.kind
    return _CLASS_PREFIX[family] + _CLASS_SUFFIX[kind]


def head_from_hf(hf: Mapping[str, Any], family: Family, *, where: str) -> HeadSpec | None:
    """Read the head from config.json, or None where `architectures` does not tell it.

    Raises:
        ModelError: a head that potstill does not know, or labels that do not fit together.
    """
    names = hf.get("architectures") or []
    if not isinstance(names, list):
        raise ModelError(f"architectures is {names!r}", where=where, allowed="a list of one class")
    if not names:
        return None
    return head_of_kind(_kind_of_class(str(names[0]), family, where), hf, family, where=where)


def head_of_kind(
    kind: HeadKind,
    hf: Mapping[str, Any],
    family: Family,
    *,
    where: str,
    pooling: Pooling = "first",
) -> HeadSpec:
    """Read a head whose kind is known: its labels, dropout and problem type.

    Raises:
        ModelError: labels that do not fit together, another problem type or dropout.
    """
    if kind in {"none", "masked-lm"}:
        return HeadSpec(kind=kind)
    labels = ("start", "end") if kind == "question-answering" else _labels(hf, where)
    return HeadSpec(
        kind=kind,
        labels=labels,
        pooling=pooling,
        dropout=_dropout(hf, family, kind, where),
        problem=_problem(hf, where),
    )


def head_to_hf(head: HeadSpec, family: Family) -> dict[str, Any]:
    """Write a head as fields of config.json."""
    hf: dict[str, Any] = {"architectures": [hf_class_name(family, head)]}
    if head.kind in {"classification", "token-classification"}:
        hf["id2label"] = {str(index): label for index, label in enumerate(head.labels)}
        hf["label2id"] = {label: index for index, label in enumerate(head.labels)}
    if head.problem:
        hf["problem_type"] = head.problem
    key = dropout_key(family, head.kind)
    if key is not None and head.dropout is not None:
        hf[key] = head.dropout
    return hf


def dropout_key(family: Family, kind: HeadKind) -> str | None:
    """Return the field of config.json that holds a head's dropout; None: it is the encoder's."""
    if family != "distilbert":
        return "classifier_dropout"
    return _DISTILBERT_DROPOUTS.get(kind)


def _kind_of_class(name: str, family: Family, where: str) -> HeadKind:
    for prefix in sorted(_CLASS_PREFIX.values(), key=len, reverse=True):
        if name.startswith(prefix):
            suffix = name.removeprefix(prefix)
            by_suffix = {
                theirs: kind for kind, theirs in _CLASS_SUFFIX.items() if kind != "embedding"
            } | dict(_CLASS_SYNONYMS)
            if suffix in by_suffix:
                return by_suffix[suffix]
    raise ModelError(
        f"architectures names {name!r}, a head that potstill does not know",
        where=where,
        allowed=", ".join(
            _CLASS_PREFIX[family] + suffix for suffix in dict.fromkeys(_CLASS_SUFFIX.values())
        ),
    )


def _labels(hf: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = hf.get("id2label")
    if names is None:
        return tuple(f"LABEL_{index}" for index in range(_number_of_labels(hf, where)))
    try:
        by_index = [(int(index), str(label)) for index, label in names.items()]
    except (AttributeError, ValueError) as error:
        raise ModelError("id2label must be an object from index to label", where=where) from error
    indices = sorted(index for index, _ in by_index)
    if not indices or indices != list(range(len(indices))):
        raise ModelError(
            f"id2label has the indices {_shortened(indices)}, which do not run from 0 without "
            "a gap",
            where=where,
        )
    labels = tuple(label for _, label in sorted(by_index))
    if len(set(labels)) != len(labels):
        ((twice, _),) = Counter(labels).most_common(1)
        raise ModelError(f"id2label names the label {twice!r} twice", where=where)
    return labels


def _number_of_labels(hf: Mapping[str, Any], where: str) -> int:
    number = hf.get("num_labels")
    if number is None:
        return 2
    if type(number) is not int or not 1 <= number <= _MOST_LABELS:
        raise ModelError(f"num_labels is {number!r}", where=where, allowed=f"1 to {_MOST_LABELS:,}")
    return number


def _problem(hf: Mapping[str, Any], where: str) -> str | None:
    problem = hf.get("problem_type")
    if problem is None:
        return None
    if problem not in PROBLEMS:
        raise ModelError(f"problem_type is {problem!r}", where=where, allowed=", ".join(PROBLEMS))
    return str(problem)


def _dropout(hf: Mapping[str, Any], family: Family, kind: HeadKind, where: str) -> float | None:
    key = dropout_key(family, kind)
    value = None if key is None else hf.get(key)
    if value is None:
        return _ASSUMED_DROPOUTS.get(key)
    if type(value) not in (int, float) or not 0 <= value <= LARGEST_DROPOUT:
        raise ModelError(f"{key} is {value!r}", where=where, allowed=f"0 to {LARGEST_DROPOUT}")
    return float(value)


def _shortened(numbers: list[int], limit: int = 8) -> str:
    shown = ", ".join(str(number) for number in numbers[:limit])
    return f"{shown}, …" if len(numbers) > limit else shown or "(none)"
