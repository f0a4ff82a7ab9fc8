"""Laws of encoding: alone as in a batch, nothing lost in silence, spans that fit the text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from potstill.errors import DataError, ModelError, RecipeError
from potstill.text import encoded as encoded_module
from potstill.text.tokenizer import Encoded, Tokenizer
from potstill.text.tokenizer_files import load_tokenizer

# without the surrogates, which are no text
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
wordy_text = st.text(
    "abcdefgh ing.,!\u6771\u05e9\u05dc\u0301\u00e9\U0001f642\u0000#@[]", max_size=30
)
texts = st.one_of(any_text, wordy_text)
kinds = st.sampled_from(["bert", "roberta"])

STRANGE_TEXTS = [
    "hello \U0001f642\U0001f469\u200d\U0001f680 world",
    "he\u0301llo w\u00f6rld e\u0301\u0302",
    "\u6771\u4eac world",
    "a\u0000b",
    "\u05e9\u05dc hello",
    "  hello\tworld\n",
]


@pytest.fixture(scope="module")
def tokenizers(bert: Tokenizer, roberta: Tokenizer) -> dict[str, Tokenizer]:
    """Return the small tokenizers by kind."""
    return {"bert": bert, "roberta": roberta}


def test_special_tokens_stand_around_a_text(bert: Tokenizer):
    ids = bert.encode(["hello worlds"]).batch.ids.tolist()
    tokens = [bert.id_to_token(index) for index in ids]
    assert tokens == ["[CLS]", "hello", "world", "##s", "[SEP]"]
    assert bert.decode(ids) == "hello worlds"
    assert bert.decode(np.asarray(ids), skip_special_tokens=False) == "[CLS] hello worlds [SEP]"


def test_special_ids_are_found(bert: Tokenizer, roberta: Tokenizer):
    assert (bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id, bert.mask_id) == (0, 1, 2, 3, 4)
    assert (roberta.cls_id, roberta.pad_id, roberta.sep_id) == (0, 1, 2)
    assert (roberta.unk_id, roberta.mask_id) == (3, 4)
    assert bert.special_ids == roberta.special_ids == (0, 1, 2, 3, 4)
    assert roberta.vocabulary_size == 5 + 256 + 2
    assert bert.uses_token_types
    assert not roberta.uses_token_types


@given(st.lists(texts, max_size=6), kinds, st.none() | st.integers(5, 12), st.booleans())
def test_a_text_alone_gives_what_it_gives_in_a_batch(tokenizers, rows, kind, limit, exact):
    tokenizer = tokenizers[kind]
    together = tokenizer.encode(rows, max_length=limit, with_offsets=exact)
    assert len(together.batch) == len(rows)
    for index, text in enumerate(rows):
        alone = tokenizer.encode([text], max_length=limit, with_offsets=exact)
        np.testing.assert_array_equal(together.batch.text(index), alone.batch.ids)
        assert together.dropped_tokens[index] == alone.dropped_tokens[0]
        if exact:
            start, end = together.batch.offsets[index : index + 2]
            np.testing.assert_array_equal(together.offsets[start:end], alone.offsets)


@given(st.lists(st.tuples(texts, texts), max_size=6), kinds, st.none() | st.integers(5, 20))
def test_the_fast_way_gives_the_ids_of_the_exact_way(tokenizers, rows, kind, limit):
    firsts, seconds = [first for first, _ in rows], [second for _, second in rows]
    fast = tokenizers[kind].encode(firsts, seconds, max_length=limit)
    exact = tokenizers[kind].encode(firsts, seconds, max_length=limit, with_offsets=True)
    np.testing.assert_array_equal(fast.batch.ids, exact.batch.ids)
    np.testing.assert_array_equal(fast.batch.offsets, exact.batch.offsets)
    np.testing.assert_array_equal(fast.dropped_tokens, exact.dropped_tokens)
    assert fast.offsets is fast.is_special is fast.sequence_index is None


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6), kinds, st.integers(5, 20))
def test_what_is_cut_is_counted_and_the_rest_is_untouched(tokenizers, rows, kind, limit):
    firsts, seconds = [first for first, _ in rows], [second for _, second in rows]
    for pairs in (None, seconds):
        whole = tokenizers[kind].encode(firsts, pairs, with_offsets=True)
        cut = tokenizers[kind].encode(firsts, pairs, max_length=limit, with_offsets=True)
        np.testing.assert_array_equal(
            cut.dropped_tokens, np.maximum(whole.batch.lengths - limit, 0)
        )
        np.testing.assert_array_equal(cut.truncated, whole.batch.lengths > limit)
        assert whole.dropped_tokens.sum() == 0
        for row in range(len(rows)):
            for sequence in (-1, 0, 1):
                kept, full = part(cut, row, sequence), part(whole, row, sequence)
                assert kept == full[: len(kept)]
                assert sequence >= 0 or kept == full


@given(texts, kinds)
def test_spans_rise_and_lie_inside_the_text(tokenizers, text, kind):
    encoded = tokenizers[kind].encode([text], with_offsets=True)
    assert encoded.offsets is not None
    assert encoded.offsets.shape == (encoded.batch.total_tokens, 2)
    inner = encoded.offsets[~encoded.is_special]
    assert (inner[:, 0] < inner[:, 1]).all() or kind == "roberta"
    assert (np.diff(inner[:, 0]) >= 0).all()
    assert (inner <= len(text)).all()
    assert (encoded.offsets[encoded.is_special] == 0).all()


@pytest.mark.parametrize("text", STRANGE_TEXTS)
def test_a_span_of_bert_holds_the_characters_of_its_token(bert: Tokenizer, text: str):
    encoded = bert.encode([text], with_offsets=True)
    known = [
        (bert.id_to_token(index).removeprefix("##"), plain(text[start:end]))
        for index, (start, end) in zip(encoded.batch.ids, encoded.offsets, strict=True)
        if index not in bert.special_ids
    ]
    assert known
    assert all(token == characters for token, characters in known)


@pytest.mark.parametrize("text", STRANGE_TEXTS)
def test_a_span_of_roberta_holds_the_bytes_of_its_token(roberta: Tokenizer, text: str):
    encoded = roberta.encode([text], with_offsets=True)
    byte_of = bytes_of_signs()
    for index, (start, end) in zip(encoded.batch.ids, encoded.offsets, strict=True):
        if index not in roberta.special_ids:
            token = bytes(byte_of[sign] for sign in roberta.id_to_token(index))
            assert token.strip(b" ") in text[start:end].encode()


def test_an_unknown_word_spans_the_whole_word(bert: Tokenizer):
    encoded = bert.encode(["hello \U0001f642\U0001f680 world"], with_offsets=True)
    unknown = encoded.offsets[encoded.batch.ids == bert.unk_id]
    assert unknown.tolist() == [[6, 8]]


def test_a_special_token_typed_by_hand_is_text_with_a_span(bert: Tokenizer):
    encoded = bert.encode(["a [SEP] b"], with_offsets=True)
    assert encoded.is_special.tolist() == [True, False, False, False, True]
    assert encoded.offsets.tolist() == [[0, 0], [0, 1], [2, 7], [8, 9], [0, 0]]


@given(st.lists(st.lists(texts, max_size=5), max_size=4), kinds, st.none() | st.integers(3, 12))
def test_tokens_of_words_name_their_words(tokenizers, rows, kind, limit):
    encoded = tokenizers[kind].encode_words(rows, max_length=limit, with_offsets=True)
    np.testing.assert_array_equal(encoded.word_index == -1, encoded.is_special)
    bare = tokenizers[kind].encode_words(rows, max_length=limit)
    np.testing.assert_array_equal(bare.word_index, encoded.word_index)
    assert bare.offsets is None
    owners = encoded.batch.text_index()
    for index in np.flatnonzero(encoded.word_index >= 0):
        word = rows[owners[index]][encoded.word_index[index]]
        assert 0 <= encoded.offsets[index, 0] <= encoded.offsets[index, 1] <= len(word)


def test_words_of_roberta_begin_with_a_blank(roberta: Tokenizer):
    as_words = roberta.encode_words([["he", "world"]], with_offsets=True)
    np.testing.assert_array_equal(as_words.batch.ids, roberta.encode([" he world"]).batch.ids)
    assert as_words.word_index.tolist() == [-1, 0, 0, *[1] * 5, -1]
    assert as_words.offsets.tolist()[3:-1] == [[place, place + 1] for place in range(5)]
    assert roberta.encode_words([["he"]]).offsets is None


@pytest.mark.parametrize(
    ("stated", "takes_blank"),
    [
        ({}, True),
        ({"mask_token": "<mask>"}, True),
        ({"mask_token": {"content": "<mask>", "lstrip": False}}, False),
    ],
)
def test_the_mask_of_roberta_takes_in_the_blank_before_it(
    roberta_folder: Path, tmp_path: Path, stated: dict[str, object], *, takes_blank: bool
):
    folder = Path(shutil.copytree(roberta_folder, tmp_path / "read"))
    (folder / "tokenizer_config.json").write_text(json.dumps(stated), encoding="utf-8")
    tokenizer = load_tokenizer(folder, family="roberta")
    ids = tokenizer.encode(["he <mask>"]).batch.ids
    blank = [] if takes_blank else ["\u0120"]
    assert [tokenizer.id_to_token(index) for index in ids] == [
        "<s>",
        "he",
        *blank,
        "<mask>",
        "</s>",
    ]
    tokenizer.save(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()  # special_tokens_map.json tells the rule as well
    again = load_tokenizer(folder, family="roberta")
    np.testing.assert_array_equal(again.encode(["he <mask>"]).batch.ids, ids)


def test_chunks_of_a_large_batch_are_joined_without_a_seam(
    bert: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    rows = ["hello world", "a", "", "hello hello hello", "b c"] * 3
    at_once = [bert.encode(rows, rows[::-1], max_length=6, with_offsets=True), words_of(bert, rows)]
    monkeypatch.setattr(encoded_module, "_CHUNK", 4)
    in_parts = [
        bert.encode(rows, rows[::-1], max_length=6, with_offsets=True),
        words_of(bert, rows),
    ]
    for one, other in zip(at_once, in_parts, strict=True):
        for name in ("ids", "offsets", "token_types"):
            np.testing.assert_array_equal(getattr(one.batch, name), getattr(other.batch, name))
        for name in ("dropped_tokens", "offsets", "sequence_index", "word_index"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_no_texts_give_an_empty_batch(bert: Tokenizer):
    for encoded in (
        bert.encode([], max_length=5, with_offsets=True),
        bert.encode([], []),
        bert.encode_words([]),
    ):
        assert len(encoded.batch) == encoded.batch.total_tokens == 0
        assert encoded.truncated.size == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["ok", "a\ud800b"],), "texts[1]: character 1 is the lone surrogate"),
        ((["ok", "ok"], ["ok", "\udfff"]), "pairs[1]: character 0 is the lone surrogate"),
        ((["ok", None],), "texts[1]: None is of type NoneType; allowed: a string"),
        (([("a", "b")],), "texts[0]: ('a', 'b') is of type tuple"),
        (([float("nan")],), "texts[0]: nan is of type float"),
        (("one text",), "texts is of type str; allowed: a list of strings"),
        ((None,), "texts is of type NoneType"),
        ((["a"], ["b", "c"]), "there are 1 texts and 2 pairs"),
    ],
)
def test_what_is_no_text_is_refused_with_its_row(bert: Tokenizer, arguments, message: str):
    with pytest.raises(DataError) as caught:
        bert.encode(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["ok"], ["a", "\ud800"]], "rows[1][1]: character 0 is the lone surrogate"),
        ([["ok"], "words"], "rows[1] is of type str"),
        ([["ok"], ["a", 3]], "rows[1][1]: 3 is of type int"),
    ],
)
def test_what_is_no_row_of_words_is_refused_with_its_place(bert: Tokenizer, rows, message: str):
    with pytest.raises(DataError) as caught:
        bert.encode_words(rows)
    assert message in str(caught.value)


def test_a_length_without_room_for_a_word_is_refused(bert: Tokenizer, roberta: Tokenizer):
    for tokenizer, pairs, least in ((bert, None, 3), (bert, ["b"], 4), (roberta, ["b"], 5)):
        assert tokenizer.encode(["a"], pairs, max_length=least).batch.longest == least
        with pytest.raises(RecipeError, match=f"allowed: at least {least}"):
            tokenizer.encode(["a"], pairs, max_length=least - 1)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (512, 512),
        (512.0, 512),
        (10**30, None),
        (None, None),
        ("512", None),
        (True, None),
        (0, None),
    ],
)
def test_max_length_is_a_sane_number_or_none(bert_folder: Path, tmp_path: Path, stated, expected):
    tokenizer = with_config(bert_folder, tmp_path, {"model_max_length": stated})
    assert tokenizer.max_length == expected


def test_the_older_name_of_max_length_is_understood(bert_folder: Path, tmp_path: Path):
    assert with_config(bert_folder, tmp_path, {"max_len": 128}).max_length == 128


def test_canonical_bytes_change_with_every_rule(bert_folder: Path, tmp_path: Path):
    settings = [
        {},
        {"do_lower_case": False},
        {"truncation_side": "left"},
        {"model_max_length": 64},
        {"model_input_names": ["input_ids"]},
        {"mask_token": "[UNK]"},
    ]
    seen = [with_config(bert_folder, tmp_path, each).canonical_bytes() for each in settings]
    assert len(set(seen)) == len(settings)
    assert with_config(bert_folder, tmp_path, {}).canonical_bytes() == seen[0]
    assert with_config(bert_folder, tmp_path, {"ours": 1}).canonical_bytes() == seen[0]


def test_a_vocabulary_without_a_mask_says_so_when_asked(bert_folder: Path, tmp_path: Path):
    content = (bert_folder / "vocab.txt").read_text(encoding="utf-8")
    (tmp_path / "vocab.txt").write_text(content.replace("[MASK]", "mask"), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path, family="bert")
    assert tokenizer.special_ids == (0, 1, 2, 3)
    with pytest.raises(ModelError, match="has no mask_token"):
        _ = tokenizer.mask_id


def test_seven_thousand_short_texts_take_well_under_a_second(minilm: Path, shared_data: Path):
    lines = (shared_data / "sst2" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["text"] for line in lines]
    tokenizer = load_tokenizer(minilm, family="bert")
    started = time.process_time()
    assert len(tokenizer.encode(rows, max_length=128).batch) == 6_920
    assert time.process_time() - started < 1.5  # of all threads together


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_can_encode(bert_folder: Path):
    environment = {key: value for key, value in os.environ.items() if "TOKENIZERS" not in key}
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(bert_folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "false true\n"


def test_a_choice_of_the_user_about_threads_is_left_alone(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "0")
    load_tokenizer(bert_folder, family="bert").encode(["a"])
    assert os.environ["TOKENIZERS_PARALLELISM"] == "0"


FORKING = """
import os, sys
from pathlib import Path
from potstill.text.tokenizer_files import load_tokenizer

assert "TOKENIZERS_PARALLELISM" not in os.environ, "work at import"
tokenizer = load_tokenizer(Path(sys.argv[1]), family="bert")
tokenizer.encode(["hello"] * 500)
child = os.fork()
if child == 0:
    tokenizer.encode(["hello"] * 500)
    print(os.environ["TOKENIZERS_PARALLELISM"], end=" ", flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(os.environ["TOKENIZERS_PARALLELISM"])
"""


def part(encoded: Encoded, row: int, sequence: int) -> list[tuple[int, int, int]]:
    """Return ids and spans of one half of a pair, or of the special tokens (-1)."""
    start, end = encoded.batch.offsets[row : row + 2]
    chosen = np.flatnonzero(encoded.sequence_index[start:end] == sequence) + start
    return [(int(encoded.batch.ids[n]), *encoded.offsets[n].tolist()) for n in chosen]


def words_of(tokenizer: Tokenizer, rows: list[str]) -> Encoded:
    return tokenizer.encode_words([row.split() for row in rows], max_length=4)


def plain(characters: str) -> str:
    """Return characters as an uncased BERT sees them: lower case, without accents."""
    split = unicodedata.normalize("NFD", characters).lower()
    return "".join(sign for sign in split if unicodedata.category(sign) not in ("Mn", "Cc"))


def bytes_of_signs() -> dict[str, int]:
    """Return the byte that each sign of a byte-level vocabulary stands for."""
    printable = [
        byte for byte in range(256) if chr(byte) in ByteLevel.alphabet() and byte != ord(" ")
    ]
    hidden = [byte for byte in range(256) if byte not in printable]
    signs = {chr(byte): byte for byte in printable}
    return signs | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def with_config(bert_folder: Path, folder: Path, config: dict[str, object]) -> Tokenizer:
    (folder / "vocab.txt").write_bytes((bert_folder / "vocab.txt").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return load_tokenizer(folder, family="bert")
