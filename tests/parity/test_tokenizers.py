"""The same ids, segments and offsets as transformers, from every kind of file and back again."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer
from tokenizers.processors import TemplateProcessing

from potstill.text.ragged import RaggedBatch
from potstill.text.tokenizer import Encoded, Tokenizer
from potstill.text.tokenizer_files import load_tokenizer

transformers = pytest.importorskip("transformers", reason="pip install 'transformers>=5'")

TEXTS_OF_A_SET = 200
WITH_TEXT = ("sst2", "tweeteval_emotion", "imdb")
WITH_TOKENS = ("conll2003", "ncbi_disease")
STRANGE_TEXTS = [
    "",
    " ",
    "\n\t\r ",
    "a\u0000b \ufffd c\u200bd",
    "e\u0301te\u0301 \u00e9t\u00e9 A\u030angstro\u0308m",
    "\u6771\u4eac\u90fd is Tokyo; \u30ab\u30bf\u30ab\u30ca \ud55c\uad6d\uc5b4",
    "\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0639\u0631\u0628\u064a\u0629 abc",
    "\U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 ok \U0001f1e9\U0001f1ea",
    "[CLS] typed [MASK] by [SEP] hand, <s> too </s> or <mask>!",
    "x" * 101 + " " + "y" * 100,
    "\u0130stanbul \u01c5 \ufb01ne \u00df STRASSE",
    "don't-stop_believing #hashtag @user http://t.co/x?y=1&z",
]
# [CLS] A [SEP] B [SEP], all of type 0
ONE_SEGMENT = [
    {kind: {"id": name, "type_id": 0}}
    for kind, name in (
        ("SpecialToken", "[CLS]"),
        ("Sequence", "A"),
        ("SpecialToken", "[SEP]"),
        ("Sequence", "B"),
        ("SpecialToken", "[SEP]"),
    )
]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[str]:
    """Return 1,000 real texts of five kinds, and the strange ones."""
    chosen = [text for name in WITH_TEXT for text in column(shared_data, name, "text")]
    for name in WITH_TOKENS:
        chosen += [" ".join(tokens) for tokens in column(shared_data, name, "tokens")]
    assert len(chosen) == 1_000
    return chosen + STRANGE_TEXTS


@pytest.fixture(scope="module")
def bert(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of the real model, its weights left out."""
    folder = tmp_path_factory.mktemp("bert")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / name, folder)
    return folder


@pytest.fixture(scope="module")
def roberta(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with vocab.json and merges.txt, learned from the real texts."""
    folder = tmp_path_factory.mktemp("roberta")
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(
        texts, vocab_size=3_000, show_progress=False, special_tokens=ROBERTA_SPECIALS
    )
    learner.save_model(str(folder))
    write_json(folder / "config.json", {"model_type": "roberta"})
    # transformers 4 took the blank before <mask> in by itself; 5 has to be told
    write_json(
        folder / "tokenizer_config.json", {"mask_token": {"content": "<mask>", "lstrip": True}}
    )
    write_json(
        folder / "special_tokens_map.json", {"mask_token": {"content": "<mask>", "lstrip": True}}
    )
    return folder


@pytest.fixture(scope="module")
def unigram(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tokenizer.json of XLM-R's kind, learned from the real texts."""
    folder = tmp_path_factory.mktemp("unigram")
    learner = SentencePieceUnigramTokenizer()
    learner.train_from_iterator(
        texts,
        vocab_size=1_000,
        show_progress=False,
        special_tokens=ROBERTA_SPECIALS,
        unk_token="<unk>",
    )
    learner.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    learner.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", {"model_type": "xlm-roberta"})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    return folder


def test_the_real_tokenizer_json_gives_the_ids_of_transformers(bert: Path, texts: list[str]):
    expect_same(load_tokenizer(bert, family="bert"), reference(bert), texts)


@pytest.mark.parametrize(
    ("lower", "accents", "chinese"),
    list(itertools.product([True, False], [None, True, False], [True, False])),
)
def test_a_vocabulary_file_gives_the_ids_of_transformers(
    bert: Path,
    tmp_path: Path,
    texts: list[str],
    *,
    lower: bool,
    accents: bool | None,
    chinese: bool,
):
    settings = {
        "do_lower_case": lower,
        "strip_accents": accents,
        "tokenize_chinese_chars": chinese,
        "never_split": ["don't", "C++"],
    }
    folder = only_vocabulary(bert, tmp_path, settings)
    chosen = texts[::7] + STRANGE_TEXTS
    expect_same(load_tokenizer(folder, family="bert"), reference(folder), chosen)


def test_a_vocabulary_file_without_settings_gives_the_ids_of_transformers(
    bert: Path, tmp_path: Path, texts: list[str]
):
    folder = only_vocabulary(bert, tmp_path, None)
    expect_same(load_tokenizer(folder, family="bert"), reference(folder), texts)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False, "tokenizer_class": "BertTokenizer"},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False},
        {"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"},
    ],
)
def test_where_tokenizer_json_and_config_disagree_transformers_is_followed(
    bert: Path, tmp_path: Path, texts: list[str], settings: dict[str, object]
):
    folder = copied(bert, tmp_path)
    write_json(folder / "tokenizer_config.json", settings)
    expect_same(load_tokenizer(folder, family="bert"), reference(folder), texts[::7])


def test_a_null_for_accents_speaks_too(bert: Path, tmp_path: Path, texts: list[str]):
    folder = copied(bert, tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"]["strip_accents"] = False
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "tokenizer_config.json", {"strip_accents": None})
    chosen = texts[::20] + STRANGE_TEXTS
    expect_same(load_tokenizer(folder, family="bert"), reference(folder), chosen)


def test_byte_pairs_give_the_ids_of_transformers(roberta: Path, texts: list[str]):
    expect_same(load_tokenizer(roberta, family="roberta"), reference(roberta), texts)


def test_byte_pairs_with_a_leading_blank_give_the_ids_of_transformers(
    roberta: Path, tmp_path: Path, texts: list[str]
):
    folder = copied(roberta, tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", settings | {"add_prefix_space": True})
    expect_same(load_tokenizer(folder, family="roberta"), reference(folder), texts[::5])


def test_a_unigram_vocabulary_gives_the_ids_of_transformers(unigram: Path, texts: list[str]):
    expect_same(load_tokenizer(unigram, family="xlm-roberta"), reference(unigram), texts[::3])


@pytest.mark.parametrize("max_length", [8, 16, 32])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_truncation_of_texts_and_pairs_is_that_of_transformers(
    bert: Path,
    roberta: Path,
    tmp_path: Path,
    texts: list[str],
    kind: str,
    side: str,
    max_length: int,
):
    folder = copied({"bert": bert, "roberta": roberta}[kind], tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", settings | {"truncation_side": side})
    ours, theirs = load_tokenizer(folder, family=kind), reference(folder)
    # short, since the library takes seconds for a long text and a small max_length
    firsts = [text[:240] for text in texts[::10]] + STRANGE_TEXTS
    seconds = [*firsts[3:], *firsts[:3]]
    for pairs in (None, seconds):
        encoded = ours.encode(firsts, pairs, max_length=max_length, with_offsets=True)
        expected = theirs(firsts, pairs, truncation=True, max_length=max_length, **ALL_COLUMNS)
        expect_columns(encoded, expected)
        assert ids_of(ours.encode(firsts, pairs, max_length=max_length).batch) == ids_of(
            encoded.batch
        )
        whole = [len(ids) for ids in theirs(firsts, pairs)["input_ids"]]
        np.testing.assert_array_equal(encoded.dropped_tokens, whole - encoded.batch.lengths)
        assert encoded.truncated.any()
        assert not encoded.truncated.all()


def test_only_a_pair_of_bert_has_token_types(bert: Path, roberta: Path, texts: list[str]):
    firsts, seconds = texts[:40], texts[40:80]
    tokenizer = load_tokenizer(bert, family="bert")
    types = tokenizer.encode(firsts, seconds).batch.token_types
    expected = reference(bert)(firsts, seconds)["token_type_ids"]
    assert types is not None
    assert types.tolist() == list(itertools.chain.from_iterable(expected))
    assert tokenizer.encode(firsts).batch.token_types is None
    for folder, family in ((bert, "distilbert"), (roberta, "roberta")):
        other = load_tokenizer(folder, family=family)
        assert other.encode(firsts, seconds).batch.token_types is None


@pytest.mark.parametrize("max_length", [None, 24])
def test_words_are_found_as_transformers_finds_them(
    bert: Path, roberta: Path, tmp_path: Path, shared_data: Path, max_length: int | None
):
    rows = [row for name in WITH_TOKENS for row in column(shared_data, name, "tokens")]
    rows.append(["a\u200bb", "\u0000", "[SEP]", "\U0001f642"])
    spaced = copied(roberta, tmp_path)
    write_json(spaced / "tokenizer_config.json", {"add_prefix_space": True})
    for folder, asked, family in ((bert, bert, "bert"), (roberta, spaced, "roberta")):
        encoded = load_tokenizer(folder, family=family).encode_words(
            rows, max_length=max_length, with_offsets=True
        )
        expected = reference(asked)(
            rows,
            is_split_into_words=True,
            truncation=max_length is not None,
            max_length=max_length,
            **ALL_COLUMNS,
        )
        expect_columns(encoded, expected)
        words = [none_as_minus_one(expected.word_ids(row)) for row in range(len(rows))]
        assert encoded.word_index is not None
        assert encoded.word_index.tolist() == list(itertools.chain.from_iterable(words))


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_saved_tokenizer_is_the_same_in_transformers(
    bert: Path, tmp_path: Path, texts: list[str], family: str
):
    tokenizer = load_tokenizer(bert, family=family)
    theirs = expect_saved(tokenizer, tmp_path, texts, family)
    assert type(theirs).__name__ == {"bert": "BertTokenizer"}.get(family, "DistilBertTokenizer")
    assert ("token_type_ids" in theirs.model_input_names) is (family == "bert")
    assert theirs.model_max_length == tokenizer.max_length == 512
    assert (tmp_path / "vocab.txt").read_bytes() == (bert / "vocab.txt").read_bytes()


def test_a_cased_tokenizer_json_without_settings_stays_cased_once_saved(
    bert: Path, tmp_path: Path, texts: list[str]
):
    folder = copied(bert, tmp_path / "read")
    (folder / "tokenizer_config.json").unlink()
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] |= {"lowercase": False, "strip_accents": True}
    write_json(folder / "tokenizer.json", content)
    tokenizer = load_tokenizer(folder, family="bert")
    expect_saved(tokenizer, tmp_path / "written", texts[::7], "bert")


@pytest.mark.parametrize("spaced", [True, False])
def test_saved_byte_pairs_are_the_same_in_transformers(
    roberta: Path, tmp_path: Path, texts: list[str], *, spaced: bool
):
    folder = copied(roberta, tmp_path / "read")
    write_json(folder / "tokenizer_config.json", {"add_prefix_space": spaced})
    tokenizer = load_tokenizer(folder, family="roberta")
    written = tmp_path / "written"
    theirs = expect_saved(tokenizer, written, texts[::3], "roberta")
    assert type(theirs).__name__ == "RobertaTokenizer"
    assert (written / "merges.txt").read_bytes() == (roberta / "merges.txt").read_bytes()
    assert json.loads((written / "vocab.json").read_text()) == json.loads(
        (roberta / "vocab.json").read_text()
    )
    (written / "tokenizer.json").unlink()
    again = load_tokenizer(written, family="roberta")
    assert again.canonical_bytes() == tokenizer.canonical_bytes()


def test_a_leading_blank_that_only_tokenizer_json_tells_stays_once_saved(
    roberta: Path, tmp_path: Path, texts: list[str]
):
    folder = copied(roberta, tmp_path / "read")
    write_json(folder / "tokenizer_config.json", {"add_prefix_space": True})
    load_tokenizer(folder, family="roberta").save(folder)
    (folder / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(folder, family="roberta")
    expect_saved(tokenizer, tmp_path / "written", texts[::7], "roberta")


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_saved_unigram_tokenizer_is_the_same_in_transformers(
    unigram: Path, tmp_path: Path, texts: list[str], family: str
):
    """A multilingual MiniLM is a BERT with such a tokenizer."""
    tokenizer = load_tokenizer(unigram, family=family)
    theirs = expect_saved(tokenizer, tmp_path, texts[::3], family)
    assert ("token_type_ids" in theirs.model_input_names) is (family == "bert")


@pytest.mark.parametrize(
    "rules",
    [
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}},
        {"pre_tokenizer": {"type": "WhitespaceSplit"}},
        {"post_processor": {"pair": ONE_SEGMENT}},
        {"model": {"max_input_chars_per_word": 4}},
    ],
)
def test_rules_that_transformers_does_not_build_itself_are_saved_whole(
    bert: Path, tmp_path: Path, texts: list[str], rules: dict[str, dict]
):
    folder = copied(bert, tmp_path / "read")
    content = json.loads((folder / "tokenizer.json").read_text())
    for part, changed in rules.items():
        content[part] = changed if "type" in changed else content[part] | changed
    write_json(folder / "tokenizer.json", content)
    theirs = expect_saved(
        load_tokenizer(folder, family="bert"), tmp_path / "written", texts[::7], "bert"
    )
    pairs = load_tokenizer(folder, family="bert").encode(texts[:9], texts[9:18]).batch
    expected = theirs(texts[:9], texts[9:18])
    assert ids_of(pairs) == expected["input_ids"]
    assert pairs.token_types is not None
    assert pairs.token_types.tolist() == [*itertools.chain(*expected["token_type_ids"])]


def test_byte_pairs_without_the_usual_split_are_saved_whole(
    roberta: Path, tmp_path: Path, texts: list[str]
):
    folder = tmp_path / "read"
    load_tokenizer(roberta, family="roberta").save(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"]["use_regex"] = False
    write_json(folder / "tokenizer.json", content)
    tokenizer = load_tokenizer(folder, family="roberta")
    expect_saved(tokenizer, tmp_path / "written", texts[:60], "roberta")


def test_added_tokens_keep_their_ids_from_file_to_file(
    bert: Path, tmp_path: Path, texts: list[str]
):
    """added_tokens.json beside vocab.txt is how older folders hold them."""
    settings = {"do_lower_case": True, "additional_special_tokens": ["<URL>", "<Last>"]}
    folder = only_vocabulary(bert, tmp_path / "read", settings)
    write_json(folder / "added_tokens.json", {"<user>": 30_522, "Foo-Bar": 30_523, "<URL>": 30_524})
    chosen = [
        "<user> <USER> saw a foo-bar, a Foo-Bar and <Last> <last> at <URL> <url>",
        *texts[:20],
    ]
    tokenizer = load_tokenizer(folder, family="bert")
    assert tokenizer.vocabulary_size == 30_526
    assert {30_522, 30_524, 30_525} <= set(tokenizer.encode(chosen[:1]).batch.ids.tolist())
    assert set(tokenizer.special_ids) >= {30_524, 30_525}
    assert not set(tokenizer.special_ids) & {30_522, 30_523}
    expect_same(tokenizer, reference(folder), chosen)
    expect_saved(tokenizer, tmp_path / "written", chosen, "bert")


def test_added_tokens_of_a_config_keep_their_ids(bert: Path, tmp_path: Path, texts: list[str]):
    """added_tokens_decoder is how transformers 4 holds them; a map beside it is not read."""
    added = {
        "30522": {"content": "<URL>", "special": True},
        "30523": {"content": "Foo-Bar", "normalized": True},
        "0": {"content": "[PAD]"},
    }
    settings = {"added_tokens_decoder": added, "pad_token": "[PAD]"}
    folder = only_vocabulary(bert, tmp_path / "read", settings)
    write_json(folder / "special_tokens_map.json", {"pad_token": "[unused0]"})
    chosen = ["foo-bar or Foo-Bar at <URL> <url>", *texts[:20]]
    tokenizer = load_tokenizer(folder, family="bert")
    assert tokenizer.special_ids == (0, 100, 101, 102, 103, 30_522)
    assert tokenizer.pad_id == reference(folder).pad_token_id == 0
    expect_same(tokenizer, reference(folder), chosen)
    expect_saved(tokenizer, tmp_path / "written", chosen, "bert")
    saved = json.loads((tmp_path / "written" / "tokenizer_config.json").read_text())
    known = {int(index): token["content"] for index, token in saved["added_tokens_decoder"].items()}
    assert (known[30_522], known[102]) == ("<URL>", "[SEP]")


def test_a_map_is_read_before_a_config_without_added_tokens(bert: Path, tmp_path: Path):
    folder = only_vocabulary(bert, tmp_path, {"pad_token": "[PAD]"})
    write_json(folder / "special_tokens_map.json", {"pad_token": "[unused0]"})
    tokenizer = load_tokenizer(folder, family="bert")
    assert tokenizer.pad_id == reference(folder).pad_token_id == 1


def test_what_a_config_says_besides_is_kept_but_code_is_not(bert: Path, tmp_path: Path):
    folder = copied(bert, tmp_path / "read")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    strange = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "model_max_length": 10**30}
    write_json(folder / "tokenizer_config.json", settings | strange | {"ours": [1, "\u00e9"]})
    tokenizer = load_tokenizer(folder, family="bert")
    assert tokenizer.max_length is None
    tokenizer.save(tmp_path / "written")
    saved = json.loads((tmp_path / "written" / "tokenizer_config.json").read_text())
    assert saved["ours"] == [1, "\u00e9"]
    assert saved["model_max_length"] == 10**30
    assert "auto_map" not in saved


ALL_COLUMNS = {"return_offsets_mapping": True, "return_special_tokens_mask": True}


def column(shared_data: Path, name: str, key: str) -> list:
    with (shared_data / name / "test.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)[key] for line in itertools.islice(lines, TEXTS_OF_A_SET)]


def reference(folder: Path):
    return transformers.AutoTokenizer.from_pretrained(str(folder))


def expect_same(ours: Tokenizer, theirs, texts: Sequence[str]) -> None:
    assert ids_of(ours.encode(texts).batch) == theirs(list(texts))["input_ids"]


def expect_columns(encoded: Encoded, expected) -> None:
    assert ids_of(encoded.batch) == expected["input_ids"]
    spans = list(itertools.chain.from_iterable(expected["offset_mapping"]))
    np.testing.assert_array_equal(encoded.offsets, spans)
    special = list(itertools.chain.from_iterable(expected["special_tokens_mask"]))
    np.testing.assert_array_equal(encoded.is_special, np.asarray(special) == 1)
    rows = range(len(expected["input_ids"]))
    sequences = [none_as_minus_one(expected.sequence_ids(row)) for row in rows]
    np.testing.assert_array_equal(
        encoded.sequence_index, list(itertools.chain.from_iterable(sequences))
    )


def expect_saved(tokenizer: Tokenizer, folder: Path, texts: Sequence[str], family: str):
    """Save, and compare with what transformers and we load from the folder."""
    tokenizer.save(folder)
    theirs = reference(folder)
    expect_same(tokenizer, theirs, texts)
    assert (theirs.cls_token_id, theirs.pad_token_id) == (tokenizer.cls_id, tokenizer.pad_id)
    assert (theirs.sep_token_id, theirs.mask_token_id) == (tokenizer.sep_id, tokenizer.mask_id)
    again = load_tokenizer(folder, family=family)
    assert again.canonical_bytes() == tokenizer.canonical_bytes()
    return theirs


def ids_of(batch: RaggedBatch) -> list[list[int]]:
    return [batch.text(row).tolist() for row in range(len(batch))]


def none_as_minus_one(values: Sequence[int | None]) -> list[int]:
    return [-1 if value is None else value for value in values]


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target, dirs_exist_ok=True))


def only_vocabulary(bert: Path, target: Path, settings: dict[str, object] | None) -> Path:
    target.mkdir(exist_ok=True)
    for name in ("config.json", "vocab.txt"):
        shutil.copy(bert / name, target)
    if settings is not None:
        write_json(target / "tokenizer_config.json", settings)
    return target


def write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
