"""Any `transformers` model as a teacher: DeBERTa, ModernBERT, ELECTRA, ALBERT and their like.

The one module that imports transformers, and only where such a teacher is asked for (extra
`foreign`). No code is loaded from a model folder, no pickle is read, and no weight is drawn at
random: a head that the checkpoint lacks is refused.

Legend: R rows, B rows of a batch, L their tokens, C labels, D width.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from potstill.bundle.hub import resolve
from potstill.bundle.sentence_transformers import VectorRecipe, read_vector_recipe
from potstill.data.rows import Rows
from potstill.distillation.signals import Tell
from potstill.errors import (
    MissingExtraError,
    ModelError,
    OutOfMemory,
    PotstillError,
    RecipeError,
)
from potstill.hub_names import PREFIX, is_hub

Floats = NDArray[np.float32]

_OF_TEXTS = "ForSequenceClassification"
_OF_TOKENS = "ForTokenClassification"
_HEADS = {  # by kind of task: what the class of the network is called after its family
    "classification": _OF_TEXTS,
    "multi-label": _OF_TEXTS,
    "regression": _OF_TEXTS,
    "ranking": _OF_TEXTS,
    "token-classification": _OF_TOKENS,
    "embedding": "",
}
# Heads whose weights have the same names, so that one would pass for the other.
_LOOK_ALIKE = (_OF_TEXTS, _OF_TOKENS, "ForMultipleChoice")
_UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls a label that has no name
_LABELS_SHOWN = 20
_OTHERWISE = (
    "use a model that transformers runs without code of its own, or write its answers to a file "
    "and give that with --teacher-answers"
)


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A model of another library, ready to answer."""

    path: str  # as the user named it
    task: str
    labels: tuple[str, ...]  # in the order of its outputs; none: vectors
    width: int | None  # of vectors
    _network: Any
    _tokenizer: Any
    _most_tokens: int  # that it can read
    _vectors: VectorRecipe  # how hidden states become a vector
    _device: str

    def answers(
        self, rows: Rows, *, max_length: int, batch_size: int = 32, tell: Tell | None = None
    ) -> Any:
        """Return its outputs for all rows: (R, C) logits, (R, D) vectors, or of entities a list.

        That list has one array of (words, C) logits a row, read at each word's first sub-word; a
        word that was cut off has nan. Vectors are those of the column `text`.

        Args:
            rows: with text and, where there are pairs, text_pair; or with tokens.
            max_length: tokens at which texts are cut; never more than the model can read.
            batch_size: rows that are run together.
            tell: called with the rows done and the rows of all.

        Raises:
            OutOfMemory: the device has no room for a batch.
            ModelError: the network fails, or its answer is not finite.
        """
        of_batch = self._of_words if self.task == "token-classification" else self._of_texts
        order = np.argsort(_sizes(rows), kind="stable")
        found: list[Any] = [None] * len(rows)
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size].tolist()
            with _told_in_one_line(self.path, "run"):
                answers = of_batch(rows.take(numbers), min(max_length, self._most_tokens))
            for number, answer in zip(numbers, answers, strict=True):
                found[number] = answer
            if tell is not None:
                tell(start + len(numbers), len(rows))
        if self.task == "token-classification":
            return found
        columns = self.width or len(self.labels)
        return np.stack(found) if found else np.zeros((0, columns), dtype=np.float32)

    @torch.inference_mode()
    def _of_texts(self, rows: Rows, max_length: int) -> Floats:
        names = ("text",) if self.task == "embedding" else ("text", "text_pair")
        batch = self._encoded(
            *[rows.column(name) for name in names if name in rows], max_length=max_length
        )
        output = self._output(batch)
        if self.task == "embedding":
            values = _pooled(
                output.last_hidden_state.float(), batch["attention_mask"].bool(), self._vectors
            )
        else:
            values = output.logits.float()
        answers: Floats = values.cpu().numpy()
        for row, answer in enumerate(answers):
            self._require_finite(answer, rows, row)
        return answers

    @torch.inference_mode()
    def _of_words(self, rows: Rows, max_length: int) -> list[Floats]:
        words = rows.column("tokens")
        batch = self._encoded(words, max_length=max_length, is_split_into_words=True)
        logits_BLC: Floats = self._output(batch).logits.float().cpu().numpy()
        found = []
        for row, own in enumerate(words):
            first = _first_tokens(batch.word_ids(row))
            answer = np.full((len(own), logits_BLC.shape[-1]), np.nan, dtype=np.float32)
            answer[list(first)] = logits_BLC[row, list(first.values())]
            self._require_finite(answer[list(first)], rows, row)
            found.append(answer)
        return found

    def _encoded(self, *columns: Sequence[Any], max_length: int, **options: Any) -> Any:
        return self._tokenizer(
            *columns,
            truncation=True,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
            **options,
        ).to(self._device)

    def _output(self, batch: Any) -> Any:
        # a tokenizer of no particular family gives token types to networks that know none
        known = inspect.signature(self._network.forward).parameters
        return self._network(**{name: batch[name] for name in batch if name in known})

    def _require_finite(self, answer: Floats, rows: Rows, row: int) -> None:
        if not np.isfinite(answer).all():
            raise ModelError(
                f"its answer to {rows.where(row)} is not finite",
                where=self.path,
                cure="leave the row out, or use another teacher",
            )


def open_foreign(path: str | Path, task: str, *, device: str) -> ForeignModel:
    """Load a transformers model as a teacher, its weights in fp32.

    Args:
        path: a folder, or "hub:NAME"; of a sentence-transformers folder the pooling is heeded.
        task: the kind that it answers.
        device: cpu, cuda, mps.

    Raises:
        MissingExtraError: transformers is not installed.
        RecipeError: a kind of task that a foreign tokenizer cannot teach.
        ModelError: no such model, no such head, weights or a tokenizer that cannot be used.
        OutOfMemory: the device has no room for it.
    """
    if task not in _HEADS:
        raise RecipeError(
            f"a foreign teacher cannot teach {task}: its answers are places in its own tokens",
            allowed=", ".join(_HEADS),
            cure="use a teacher of a family that potstill knows (BERT, RoBERTa, DistilBERT, XLM-R)",
        )
    library, name = _library(), str(path)
    folder = _folder(name)
    is_vectors = task == "embedding"
    vectors = _vector_recipe(folder) if is_vectors else VectorRecipe()
    with _told_in_one_line(name, "load"):
        network = _loaded(library, folder, task, name).to(device).eval()
        tokenizer = library.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        _require_fitting(tokenizer, network, name)
        return ForeignModel(
            path=name,
            task=task,
            labels=() if is_vectors else _labels(network.config, name),
            width=int(network.config.hidden_size) if is_vectors else None,
            _network=network,
            _tokenizer=tokenizer,
            _most_tokens=_most_tokens(network, tokenizer, vectors),
            _vectors=vectors,
            _device=device,
        )


def labels_in_order(theirs: Sequence[str], ours: Sequence[str]) -> list[int]:
    """Return where each of our labels stands among a foreign model's.

    Raises:
        ModelError: it has others; the message says which, and whether names can mend it.
    """
    if len(theirs) == len(ours) == 1:  # one number, whatever it is called
        return [0]
    lacks = [label for label in ours if label not in theirs]
    if lacks or len(theirs) != len(ours):
        raise ModelError(
            f"the foreign teacher's labels are {_listed(theirs)}; "
            + _difference(theirs, ours, lacks),
            allowed=f"those of the rows: {_listed(ours)}",
            cure=_cure_of_labels(theirs, ours),
        )
    return [list(theirs).index(label) for label in ours]


def _difference(theirs: Sequence[str], ours: Sequence[str], lacks: Sequence[str]) -> str:
    if lacks:
        return f"it lacks {_listed(lacks)}"
    if adds := [label for label in theirs if label not in ours]:
        return f"the rows have no {_listed(adds)}"
    return (
        f"it has {_listed([label for label, count in Counter(theirs).items() if count > 1])} twice"
    )


def _cure_of_labels(theirs: Sequence[str], ours: Sequence[str]) -> str:
    if len(ours) == 1:
        return "use a teacher with one output (num_labels 1)"
    if len(theirs) != len(ours):
        return "use a teacher of these labels, or rows that are labelled as its own"
    names = "its labels have no names" if all(map(_UNNAMED.fullmatch, theirs)) else "they mean one"
    return (
        f'if {names}, write those of the rows into "id2label" of its config.json, each at the '
        "number that it was trained with"
    )


def _listed(labels: Sequence[str]) -> str:
    hidden = len(labels) - _LABELS_SHOWN
    return ", ".join(labels[:_LABELS_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "transformers", extra="foreign", needed_for="a teacher of another family"
        ) from error
    library: Any = transformers
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def _folder(name: str) -> Path:
    if not is_hub(name) and not Path(name).is_dir():
        raise ModelError(
            "no such model folder", where=name, cure=f"a model on the hub is written {PREFIX}NAME"
        )
    return resolve(name)


def _vector_recipe(folder: Path) -> VectorRecipe:
    """Return what the folder says of its vectors; where it says nothing, the mean of all tokens."""
    recipe = read_vector_recipe(folder) or VectorRecipe()
    if recipe.width is not None:
        raise ModelError(
            "a dense step follows its pooling",
            where=str(folder / "modules.json"),
            allowed="Transformer, Pooling, Normalize",
            cure="write its vectors to a file and give that with --teacher-answers",
        )
    return recipe


def _loaded(library: Any, folder: Path, task: str, name: str) -> Any:
    network, told = getattr(library, f"AutoModel{_HEADS[task]}").from_pretrained(
        folder,
        use_safetensors=True,
        local_files_only=True,
        # None, the library's own choice, would ask at the terminal whether to run such code
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told below, in one line
        dtype=torch.float32,
    )
    config = network.config
    _require_whole(told, task, name)
    _require_head(tuple(config.architectures or ()), task, name)
    if task == "embedding" and config.is_encoder_decoder:
        raise ModelError("it has a decoder, which has no vector of a text", where=name)
    return network


def _require_whole(told: dict[str, Any], task: str, name: str) -> None:
    """Refuse a network of which some weights did not come from the checkpoint."""
    if mismatched := sorted(told["mismatched_keys"]):
        key, stored, needed = mismatched[0]
        raise ModelError(
            f"{key} has the shape {tuple(stored)}, by its config.json it has {tuple(needed)}",
            where=name,
            cure="let config.json tell the number of labels (id2label) and sizes of the weights",
        )
    # a vector is pooled here: the pooler, which masked-LM models lack, is not asked
    is_unused = "pooler" if task == "embedding" else None
    missing = sorted(
        key for key in told["missing_keys"] if is_unused is None or is_unused not in key
    )
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"its weights do not answer {task}: {missing[0]}{others} would be drawn at random",
            where=name,
            allowed="a model that was tuned for the task",
        )


def _require_head(architectures: tuple[str, ...], task: str, name: str) -> None:
    """Refuse the head of another task where only its name tells it from the one that is needed."""
    others = [each for each in architectures if _HEADS[task] and each.endswith(_LOOK_ALIKE)]
    if others and not any(each.endswith(_HEADS[task]) for each in others):
        raise ModelError(
            f"it is a {others[0]}, which does not answer {task}",
            where=name,
            allowed=f"a model …{_HEADS[task]}",
        )


def _require_fitting(tokenizer: Any, network: Any, name: str) -> None:
    """Refuse a tokenizer that cannot be used, or is not this network's."""
    rows = network.get_input_embeddings().num_embeddings
    if not tokenizer.is_fast:
        what, allowed = "it has no fast tokenizer", "a tokenizer.json"
    elif len(tokenizer) <= len(tokenizer.all_special_tokens):
        # without any file of it the library makes one up, to which every word is unknown
        what, allowed = "it has no vocabulary", "a tokenizer.json"
    elif tokenizer.pad_token is None:
        what, allowed = "its tokenizer has no pad_token", "a pad_token in tokenizer_config.json"
    elif len(tokenizer) > rows:
        what = f"its tokenizer has {len(tokenizer):,} tokens, its network {rows:,}"
        allowed = "files of one model"
    else:
        return
    raise ModelError(what, where=name, allowed=allowed)


def _labels(config: Any, name: str) -> tuple[str, ...]:
    numbers = sorted(config.id2label)
    if numbers != list(range(len(numbers))):
        raise ModelError(
            f"id2label of its config.json names the outputs {_listed([str(n) for n in numbers])}",
            where=name,
            allowed=f"each of 0 to {len(numbers) - 1}",
        )
    return tuple(str(config.id2label[number]) for number in numbers)


def _most_tokens(network: Any, tokenizer: Any, vectors: VectorRecipe) -> int:
    """Return how long a text may be; the library itself fails on a longer one."""
    limits = [
        vectors.max_length,
        tokenizer.model_max_length,
        getattr(network.config, "max_position_embeddings", None),
    ]
    for name, module in network.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            # RoBERTa's kin count positions from one after the padding's
            limits.append(module.num_embeddings - padding - 1)
    return min(limit for limit in limits if isinstance(limit, int) and limit > 0)


def _sizes(rows: Rows) -> NDArray[np.int64]:
    """Return about how long each row is, so that rows of one length are run together."""
    names = ("tokens",) if "tokens" in rows else ("text", "text_pair")
    columns = [[len(each) for each in rows.column(name)] for name in names if name in rows]
    sizes: NDArray[np.int64] = np.array(columns, dtype=np.int64).sum(axis=0)
    return sizes


def _first_tokens(words: Sequence[int | None]) -> dict[int, int]:
    """Return by word the place of its first token, of those that were not cut off."""
    places: dict[int, int] = {}
    for token, word in enumerate(words):
        if word is not None:
            places.setdefault(word, token)
    return places


def _pooled(states_BLD: Tensor, is_real_BL: Tensor, recipe: VectorRecipe) -> Tensor:
    if recipe.pooling == "first":
        first_B = is_real_BL.int().argmax(dim=1)  # the padding may stand on the left
        vectors_BD = states_BLD[torch.arange(len(states_BLD), device=first_B.device), first_B]
    else:
        counts_B1 = is_real_BL.sum(dim=1, keepdim=True).clamp(min=1)
        vectors_BD = (states_BLD * is_real_BL[..., None]).sum(dim=1) / counts_B1
    return normalize(vectors_BD, dim=-1) if recipe.normalize else vectors_BD


@contextlib.contextmanager
def _told_in_one_line(name: str, verb: str) -> Iterator[None]:
    """Turn whatever a foreign network meets while one loads or runs it into one line of ours."""
    try:
        yield
    except PotstillError:
        raise
    except Exception as error:  # each family fails in its own way, and none of it is ours
        if _is_out_of_memory(error):
            raise OutOfMemory(
                f"there is no memory left to {verb} it",
                where=name,
                cure="use a smaller --max-length, another --device, or a smaller teacher",
            ) from error
        beginning = " ".join(str(error).strip().splitlines()[:2])[:300]
        raise ModelError(
            f"transformers cannot {verb} it: {type(error).__name__}: {beginning}",
            where=name,
            cure=_OTHERWISE,
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    is_typed = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return is_typed or "can't allocate memory" in str(error)  # so the processor's allocator
