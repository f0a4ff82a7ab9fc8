"""A transformers model as a teacher says what it says when run by hand, or why it cannot teach.

The models are of families that potstill does not read itself, drawn at random in the folder of the
test.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.rows import Rows
from potstill.distillation import foreign
from potstill.distillation.foreign import ForeignModel, labels_in_order, open_foreign
from potstill.errors import MissingExtraError, ModelError, OutOfMemory, PotstillError, RecipeError

transformers: Any = pytest.importorskip("transformers")

LABELS = ("sad", "glad", "so-so")
TEXTS = ["good films", "the", "", "bad good the film film films films good", "bad films the film"]
SECOND = ["the", "good good good good bad", "film", "", "films"]
PAIRS = Rows({"text": TEXTS, "text_pair": SECOND}, "pairs.jsonl")
SINGLE = Rows({"text": TEXTS}, "texts.jsonl")
SENTENCES = [["good", "films", "the"], ["the"], [], ["films", "films", "films", "films", "bad"]]
WORDS = Rows({"tokens": SENTENCES}, "words.jsonl")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "##s", "the"]
MOST_TOKENS = 24
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": MOST_TOKENS,
    "initializer_range": 0.5,  # so that answers differ by more than rounding
}
FAMILIES = {
    "Electra": {"embedding_size": 8},
    "Albert": {"embedding_size": 8},
    "DebertaV2": {"relative_attention": True, "position_biased_input": False},
    "ModernBert": {
        "pad_token_id": 0,
        "bos_token_id": 2,
        "cls_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "attn_implementation": "eager",
    },
    "Roberta": {"pad_token_id": 0, "type_vocab_size": 1},
    "Bert": {},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Run tiny networks on one thread: several would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_model(
    folder: Path,
    family: str = "Electra",
    head: str = "ForSequenceClassification",
    *,
    labels: tuple[str, ...] = LABELS,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    """Write a model and a WordPiece tokenizer that knows no family."""
    names = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    config = getattr(transformers, f"{family}Config")(**SIZES | FAMILIES[family] | names | changes)
    torch.manual_seed(5)
    network = getattr(transformers, f"{family}{head}")(config)
    network.to(dtype).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, **more: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(
        models.WordPiece({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"} | more
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{name: token for name, token in special.items() if token},
    ).save_pretrained(folder)


def rewrite_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def ids_by_hand(*texts: str, max_length: int) -> tuple[list[int], list[int]]:
    """Tokenize without a library: words and a final s; only the longer text of a pair is cut."""
    parts = [
        [
            VOCABULARY.index(piece)
            for word in text.split()
            for piece in ([word] if word in VOCABULARY else [word.removesuffix("s"), "##s"])
        ]
        for text in texts
    ]
    while sum(map(len, parts)) + 1 + len(parts) > max_length:
        max(reversed(parts), key=len).pop()
    ids, types = [2], [0]
    for number, part in enumerate(parts):
        ids += [*part, 3]
        types += [number] * (len(part) + 1)
    return ids, types


@torch.inference_mode()
def run_by_hand(model: Any, *texts: str, max_length: int) -> Any:
    """Run one row alone: no batch, no padding, no tokenizer of the library."""
    ids, types = ids_by_hand(*texts, max_length=max_length)
    inputs = {"input_ids": torch.tensor([ids])}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.tensor([types])
    return model.eval()(**inputs)


def test_the_hand_written_tokens_are_those_of_the_library(tmp_path: Path):
    write_tokenizer(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text, second in zip(TEXTS, SECOND, strict=True):
        for texts in ((text,), (text, second)):
            columns = [[each] for each in texts]
            found = tokenizer(*columns, truncation=True, max_length=9)
            by_hand = ids_by_hand(*texts, max_length=9)
            assert (found["input_ids"][0], found["token_type_ids"][0]) == by_hand


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_model_run_by_hand(tmp_path: Path, family: str):
    write_model(tmp_path, family)
    by_hand = getattr(transformers, f"{family}ForSequenceClassification").from_pretrained(tmp_path)
    teacher = open_foreign(tmp_path, "classification", device="cpu")
    pairs = PAIRS if family != "Roberta" else SINGLE  # its second text has no type here
    columns = list(pairs.columns.values())
    expected = np.concatenate(
        [
            run_by_hand(by_hand, *texts, max_length=9).logits.numpy()
            for texts in zip(*columns, strict=True)
        ]
    )
    assert teacher.labels == LABELS
    found = teacher.answers(pairs, max_length=9, batch_size=2)
    assert found.dtype == np.float32
    assert np.ptp(expected, axis=0).min() > 0.01, "rows that say the same would prove nothing"
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.fixture(scope="module")
def electra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("electra"))


@pytest.fixture(scope="module")
def teacher(electra: Path) -> ForeignModel:
    return open_foreign(electra, "classification", device="cpu")


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations(range(len(TEXTS))),
    batch_size=st.integers(1, 6),
)
def test_neither_batch_nor_order_changes_an_answer(
    teacher: ForeignModel, order: list[int], batch_size: int
):
    alone = teacher.answers(PAIRS, max_length=12)
    found = teacher.answers(PAIRS.take(order), max_length=12, batch_size=batch_size)
    np.testing.assert_allclose(found, alone[order], atol=2e-5)


def test_rows_are_run_in_batches_of_like_length(
    teacher: ForeignModel, monkeypatch: pytest.MonkeyPatch
):
    lengths = []
    run = foreign.ForeignModel._output

    def watched(self: ForeignModel, batch: Any) -> Any:
        lengths.append(batch["input_ids"].shape)
        return run(self, batch)

    monkeypatch.setattr(foreign.ForeignModel, "_output", watched)
    texts = ["good " * count for count in (1, 9, 2, 10)]
    teacher.answers(Rows({"text": texts}, "texts"), max_length=20, batch_size=2)
    assert lengths == [(2, 4), (2, 12)]


def test_progress_counts_rows_to_the_last_one(teacher: ForeignModel):
    told: list[tuple[int, int]] = []
    teacher.answers(SINGLE, max_length=8, batch_size=2, tell=lambda *at: told.append(at))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_no_rows_have_no_answers_of_the_right_width(teacher: ForeignModel):
    assert teacher.answers(Rows({"text": []}, "none"), max_length=8).shape == (0, len(LABELS))


@pytest.mark.parametrize(("family", "most"), [("Electra", 24), ("Roberta", 23)])
def test_a_text_longer_than_the_model_can_read_is_cut_where_its_positions_end(
    tmp_path: Path, family: str, most: int
):
    write_model(tmp_path, family)
    teacher = open_foreign(tmp_path, "classification", device="cpu")
    long = teacher.answers(Rows({"text": ["good " * 90]}, "long"), max_length=512)
    as_cut = teacher.answers(Rows({"text": ["good " * (most - 2)]}, "cut"), max_length=512)
    shorter = teacher.answers(Rows({"text": ["good " * (most - 3)]}, "short"), max_length=512)
    np.testing.assert_array_equal(long, as_cut)
    assert np.abs(long - shorter).max() > 1e-6


def test_half_precision_weights_are_run_in_fp32(tmp_path: Path):
    write_model(tmp_path, dtype=torch.bfloat16)
    by_hand = transformers.ElectraForSequenceClassification.from_pretrained(
        tmp_path, dtype=torch.float32
    )
    expected = run_by_hand(by_hand, TEXTS[0], max_length=9).logits.numpy()
    found = open_foreign(tmp_path, "multi-label", device="cpu").answers(SINGLE, max_length=9)
    np.testing.assert_allclose(found[:1], expected, atol=2e-5)


@pytest.mark.parametrize("task", ["regression", "ranking"])
def test_one_number_a_row_is_one_column(tmp_path: Path, task: str):
    write_model(tmp_path, labels=("LABEL_0",))
    teacher = open_foreign(tmp_path, task, device="cpu")
    assert teacher.answers(PAIRS, max_length=9).shape == (len(TEXTS), 1)
    assert labels_in_order(teacher.labels, ("relevance",)) == [0]


@pytest.mark.parametrize("family", ["Electra", "DebertaV2"])
def test_a_word_is_read_at_its_first_token_and_one_cut_off_is_nan(tmp_path: Path, family: str):
    write_model(tmp_path, family, "ForTokenClassification")
    by_hand = getattr(transformers, f"{family}ForTokenClassification").from_pretrained(tmp_path)
    teacher = open_foreign(tmp_path, "token-classification", device="cpu")
    found = teacher.answers(WORDS, max_length=8, batch_size=3)
    assert [answer.shape for answer in found] == [(len(row), 3) for row in SENTENCES]
    first_tokens = [[1, 2, 4], [1], [], [1, 3, 5]]  # "films" has two tokens; 6 fit in between
    for row, places in enumerate(first_tokens):
        logits = run_by_hand(by_hand, " ".join(SENTENCES[row]), max_length=8).logits[0].numpy()
        np.testing.assert_allclose(found[row][: len(places)], logits[places], atol=2e-5)
        assert np.isnan(found[row][len(places) :]).all()
    assert np.isnan(found[3]).all(axis=1).tolist() == [False, False, False, True, True]


def test_a_word_of_no_token_is_nan_and_its_neighbours_keep_their_places(tmp_path: Path):
    write_model(tmp_path, head="ForTokenClassification")
    teacher = open_foreign(tmp_path, "token-classification", device="cpu")
    rows = Rows({"tokens": [["good", " ", "bad"], ["good", "bad"]]}, "words")
    with_blank, without = teacher.answers(rows, max_length=8)
    assert np.isnan(with_blank[1]).all()
    np.testing.assert_allclose(with_blank[[0, 2]], without, atol=1e-6)


def test_vectors_are_the_mean_of_real_tokens(tmp_path: Path):
    write_model(tmp_path, head="Model")
    by_hand = transformers.ElectraModel.from_pretrained(tmp_path)
    teacher = open_foreign(tmp_path, "embedding", device="cpu")
    expected = [
        run_by_hand(by_hand, text, max_length=9).last_hidden_state[0].mean(0).numpy()
        for text in TEXTS
    ]
    assert (teacher.labels, teacher.width) == ((), 16)
    np.testing.assert_allclose(teacher.answers(SINGLE, max_length=9), expected, atol=2e-5)


def test_a_vector_is_of_the_first_text_alone(tmp_path: Path):
    write_model(tmp_path, head="Model")
    teacher = open_foreign(tmp_path, "embedding", device="cpu")
    found = teacher.answers(PAIRS, max_length=9)
    np.testing.assert_allclose(found, teacher.answers(SINGLE, max_length=9), atol=2e-5)


def write_sentence_transformer(folder: Path, pooling: str, *after: str) -> Any:
    library = pytest.importorskip("sentence_transformers")
    steps = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    bare = write_model(folder.with_name("bare"), "Bert", "Model")
    made = {
        "Normalize": steps.Normalize,
        "Dense": lambda: steps.Dense(16, 4, activation_function=torch.nn.Identity()),
    }
    model = library.SentenceTransformer(
        modules=[
            steps.Transformer(str(bare)),
            steps.Pooling(16, pooling_mode=pooling),
            *[made[name]() for name in after],
        ],
        device="cpu",
    )
    model.max_seq_length = 6
    model.save(str(folder), create_model_card=False)
    return model


@pytest.mark.parametrize("after", [(), ("Normalize",)])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, pooling: str, after: tuple[str, ...]
):
    whole = write_sentence_transformer(tmp_path / "vectors", pooling, *after)
    teacher = open_foreign(tmp_path / "vectors", "embedding", device="cpu")
    found = teacher.answers(SINGLE, max_length=20)
    np.testing.assert_allclose(found, whole.encode(TEXTS), atol=2e-5)


def test_a_dense_step_is_refused_not_left_out(tmp_path: Path):
    write_sentence_transformer(tmp_path / "vectors", "mean", "Dense")
    with pytest.raises(ModelError, match=r"dense step.*--teacher-answers"):
        open_foreign(tmp_path / "vectors", "embedding", device="cpu")


def test_a_masked_model_gives_vectors_without_its_pooler(tmp_path: Path):
    write_model(tmp_path, "Bert", "ForMaskedLM")
    teacher = open_foreign(tmp_path, "embedding", device="cpu")
    assert teacher.answers(SINGLE, max_length=9).shape == (len(TEXTS), 16)


def without_id2label(folder: Path) -> None:
    rewrite_config(folder, id2label={"1": "a", "2": "b", "3": "c"})


def of_another_family(folder: Path) -> None:
    rewrite_config(folder, model_type="distilbert", architectures=["DistilBertModel"])


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2_000])


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def with_unknown_tokens(folder: Path) -> None:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"] |= {f"word{number}": 10 + number for number in range(5)}
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("task", "damage", "complaint"),
    [
        ("classification", without_id2label, "names the outputs 1, 2, 3; allowed: each of 0 to 2"),
        ("embedding", of_another_family, "would be drawn at random"),
        ("classification", cut_short, "cannot load it: SafetensorError"),
        ("classification", as_pickle, "no file named model.safetensors"),
        ("classification", without_tokenizer, "no vocabulary; allowed: a tokenizer.json"),
        ("classification", with_unknown_tokens, "has 15 tokens, its network 10"),
        ("classification", lambda at: write_tokenizer(at, pad_token=""), "has no pad_token"),
        ("classification", lambda at: rewrite_config(at, hidden_size="x"), "'hidden_size'"),
        ("classification", lambda at: (at / "config.json").write_text("{"), "cannot load it"),
        ("classification", shutil.rmtree, "no such model folder.*hub:NAME"),
        (
            "classification",
            lambda at: rewrite_config(at, id2label={"0": "a", "1": "b"}, label2id={}),
            r"has the shape \(3,\), by its config.json it has \(2,\)",
        ),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(
    electra: Path, tmp_path: Path, task: str, damage: Callable[[Path], object], complaint: str
):
    folder = tmp_path / "model"
    shutil.copytree(electra, folder)
    damage(folder)
    with pytest.raises(ModelError, match=complaint) as caught:
        open_foreign(folder, task, device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("family", "head", "task", "complaint"),
    [
        ("Electra", "ForMaskedLM", "classification", "classifier.* would be drawn at random"),
        ("Electra", "Model", "token-classification", "classifier.* would be drawn at random"),
        # the names of its head's weights are the same, but its pooler was never tuned
        ("Bert", "ForTokenClassification", "classification", "pooler.* would be drawn at random"),
        ("Bert", "ForSequenceClassification", "token-classification", "it is a BertForSequence"),
    ],
)
def test_a_head_of_another_task_is_refused_not_drawn(
    tmp_path: Path, family: str, head: str, task: str, complaint: str
):
    write_model(tmp_path, family, head)
    with pytest.raises(ModelError, match=complaint):
        open_foreign(tmp_path, task, device="cpu")


@pytest.mark.parametrize("model_type", ["electra", "strange"])
def test_code_in_the_folder_is_neither_run_nor_asked_about(
    electra: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str
):
    folder = tmp_path / "model"
    shutil.copytree(electra, folder)
    classes = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Network"}
    rewrite_config(folder, model_type=model_type, auto_map=classes)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("it asked the user"))
    if model_type == "electra":  # a family that the library itself has
        assert open_foreign(folder, "classification", device="cpu").labels == LABELS
    else:
        with pytest.raises(ModelError, match=r"custom code.*--teacher-answers"):
            open_foreign(folder, "classification", device="cpu")
    assert not (tmp_path / "ran").exists()


def test_a_question_has_no_foreign_teacher(electra: Path):
    with pytest.raises(RecipeError, match="a teacher of a family that potstill knows"):
        open_foreign(electra, "question-answering", device="cpu")


def test_a_missing_library_is_told_with_its_extra(electra: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'potstill\[foreign\]'"):
        open_foreign(electra, "classification", device="cpu")


def test_an_encoder_with_a_decoder_gives_no_vectors(tmp_path: Path):
    changes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16}
    config = transformers.BartConfig(
        vocab_size=10, encoder_attention_heads=2, decoder_attention_heads=2, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=None,
        **changes,
    )  # fmt: skip
    transformers.BartModel(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="it has a decoder"):
        open_foreign(tmp_path, "embedding", device="cpu")


@pytest.mark.parametrize(
    ("error", "kind", "complaint"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory, "--max-length"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemory, "no memory left"),
        (RuntimeError("shapes differ\nmuch\nmore"), ModelError, "cannot run it.*shapes differ"),
    ],
)
def test_a_network_that_fails_is_told_in_one_line(
    electra: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[PotstillError],
    complaint: str,
):
    def fail(*inputs: object, **named: object) -> None:
        raise error

    teacher = open_foreign(electra, "classification", device="cpu")
    monkeypatch.setattr(teacher._network.electra, "forward", fail)
    with pytest.raises(kind, match=complaint) as caught:
        teacher.answers(SINGLE, max_length=9)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "task"),
    [
        ("ForSequenceClassification", "classification"),
        ("ForTokenClassification", "token-classification"),
    ],
)
def test_an_answer_that_is_not_finite_names_its_row(tmp_path: Path, head: str, task: str):
    write_model(tmp_path, head=head)
    teacher = open_foreign(tmp_path, task, device="cpu")
    with torch.no_grad():
        teacher._network.get_input_embeddings().weight[VOCABULARY.index("bad")] = float("nan")
    words = [["good"], ["the", "film"], ["bad"]]
    rows = Rows({"text": [" ".join(row) for row in words]}, "train.jsonl", [3, 4, 9])
    if task == "token-classification":
        rows = rows.with_columns({"tokens": words})
    with pytest.raises(ModelError, match=r"train\.jsonl, line 9 is not finite"):
        teacher.answers(rows, max_length=9)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*asked: object) -> None:
        pytest.fail(f"the network was reached for: {asked[1:]}")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_name_on_the_hub_is_fetched_by_our_own_rules_alone(
    electra: Path, monkeypatch: pytest.MonkeyPatch
):
    fetched: list[str] = []

    def fetch(name: str) -> Path:
        fetched.append(name)
        return electra

    monkeypatch.setattr(foreign, "resolve", fetch)
    teacher = open_foreign("hub:someone/electra@v2", "classification", device="cpu")
    assert (teacher.path, fetched) == ("hub:someone/electra@v2", ["hub:someone/electra@v2"])
    assert teacher.labels == LABELS


@pytest.mark.usefixtures("no_network")
def test_offline_means_offline_even_if_said_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        open_foreign("hub:someone/electra", "classification", device="cpu")


some_labels = st.lists(st.text("abcXYZ", min_size=1, max_size=3), min_size=1, unique=True)


@given(some_labels.flatmap(lambda ours: st.tuples(st.just(ours), st.permutations(ours))))
def test_labels_are_brought_into_our_order(both: tuple[list[str], list[str]]):
    ours, theirs = both
    assert [theirs[place] for place in labels_in_order(theirs, ours)] == ours


@pytest.mark.parametrize(
    ("theirs", "ours", "complaint"),
    [
        (["glad", "sad"], ["glad", "angry"], "it lacks angry; .* if they mean one, write"),
        (["LABEL_0", "LABEL_1"], ["no", "yes"], 'labels have no names, write .*"id2label"'),
        (["a", "b", "c"], ["a", "b"], "the rows have no c; .* a teacher of these labels"),
        (["a", "b"], ["a", "b", "c"], "it lacks c; .* a teacher of these labels"),
        (["a", "b", "b"], ["a", "b"], "it has b twice"),
        (["no", "yes"], ["relevance"], "a teacher with one output"),
    ],
)
def test_other_labels_are_told_with_what_would_mend_them(
    theirs: list[str], ours: list[str], complaint: str
):
    with pytest.raises(ModelError, match=complaint):
        labels_in_order(theirs, ours)


def test_a_long_list_of_labels_is_cut_in_the_message():
    with pytest.raises(ModelError, match="LABEL_19 and 80 more") as caught:
        labels_in_order([f"LABEL_{n}" for n in range(100)], [str(n) for n in range(100)])
    assert len(str(caught.value)) < 1_200
