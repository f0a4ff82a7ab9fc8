"""Sentences of CoNLL columns are read back as they were written, each at the line of its word."""

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from potstill.data import Columns, Rows, read_rows, select_columns
from potstill.data.iob2 import require_iob2

# A mark at the start of a file is skipped, and lines and columns end at these signs.
letters = st.characters(codec="utf-8", exclude_characters=" \t\r\n\0\ufeff")
words = st.text(letters, min_size=1, max_size=6).filter(lambda word: "-DOCSTART-" not in word)
spaced = st.lists(words, min_size=1, max_size=3).map(" ".join)
tags = st.sampled_from(["O", "B-PER", "I-PER", "B-Disease"])
NASTY = [[("#", "O"), ("#", "B-PER")], [("\xa0", "O"), ("\u2028", "O"), ("\x0b", "O")]]


def sentences_of(word):
    tagged = st.lists(st.tuples(word, tags), min_size=1, max_size=5)
    return st.lists(tagged, min_size=1, max_size=5)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("conll") / "train.conll"


def read(path, content: str, **settings) -> Rows:
    path.write_bytes(content.encode())
    return read_rows(path, **settings)


def written(sentences, separator: str, line_end: str = "\n") -> str:
    blocks = ["".join(f"{separator.join(row)}{line_end}" for row in rows) for rows in sentences]
    return line_end.join(blocks)


def first_lines(sentences) -> list[int]:
    """Count one line a word, and an empty one after each sentence."""
    return list(accumulate((len(rows) + 1 for rows in sentences[:-1]), initial=1))


def sentences_in(rows: Rows) -> list[list[tuple[str, str]]]:
    pairs = zip(rows.column("tokens"), rows.column("tags"), strict=True)
    return [list(zip(*each, strict=True)) for each in pairs]


@given(sentences=sentences_of(words), line_end=st.sampled_from(["\n", "\r\n"]))
@example(sentences=NASTY, line_end="\n")
def test_columns_between_blanks_are_read_as_they_were_written(path, sentences, line_end):
    rows = read(path, written(sentences, " ", line_end))
    assert sentences_in(rows) == sentences
    assert rows.line_numbers == first_lines(sentences)


@given(sentences=sentences_of(spaced))
@example(sentences=NASTY)
def test_a_word_between_tabs_may_hold_blanks(path, sentences):
    rows = read(path, written(sentences, "\t"))
    assert sentences_in(rows) == sentences
    assert rows.line_numbers == first_lines(sentences)


@given(sentences=st.lists(st.lists(words, min_size=1, max_size=5), min_size=1, max_size=5))
@example(sentences=[["#", "a"], ["#"]])
def test_a_file_without_tags_gives_words_alone(path, sentences):
    rows = read(path, "\n".join("".join(f"{word}\n" for word in each) for each in sentences))
    assert rows.columns == {"tokens": sentences}


def test_columns_between_the_first_and_the_last_are_passed_over(path):
    rows = read(path, "EU NNP B-NP B-ORG\nrejects\tVBZ\tB-VP\tO\nGerman   JJ  B-NP B-MISC \n")
    assert rows.columns == {
        "tokens": [["EU", "rejects", "German"]],
        "tags": [["B-ORG", "O", "B-MISC"]],
    }


def test_a_document_line_ends_a_sentence_and_gives_no_row(path):
    rows = read(path, "-DOCSTART- -X- O\n\na DT O\n-DOCSTART- (2)\nb DT O\n\n-DOCSTART- -X- O\n")
    assert rows.column("tokens") == [["a"], ["b"]]
    assert rows.line_numbers == [3, 5]


def test_empty_lines_may_hold_blanks_and_stand_anywhere(path):
    rows = read(path, "\n \t\na O\n\t\r\n\nb O\n\n\n")
    assert rows.column("tokens") == [["a"], ["b"]]
    assert rows.line_numbers == [3, 6]


def test_a_comment_before_a_sentence_is_passed_over(path):
    rows = read(path, "# id 7 domain=en\n\n# text = # a\n# new\n# O\na B-X\n\n# The O of a\nb O\n")
    assert sentences_in(rows) == [[("#", "O"), ("a", "B-X")], [("b", "O")]]
    assert rows.line_numbers == [5, 9]


def test_a_comment_in_a_file_of_words_alone_is_passed_over(path):
    assert read(path, "# a b\n#\na\n\n# O\nb\n").columns == {"tokens": [["#", "a"], ["b"]]}


@pytest.mark.parametrize("line", ["#\tSYM", "#tag NN", "## NN"])
def test_only_a_hash_and_a_blank_begin_a_comment(path, line):
    assert read(path, f"{line}\n").column("tokens") == [[line.split()[0]]]


def test_a_hash_alone_is_a_word_of_a_file_without_tags(path):
    assert read(path, "# \na\n").column("tokens") == [["#", "a"]]


def test_a_hash_inside_a_sentence_is_a_word(path):
    assert sentences_in(read(path, "a O\n# SYM\n")) == [[("a", "O"), ("#", "SYM")]]


def test_a_byte_order_mark_is_skipped(path):
    assert read(path, "\ufeffa O\n").column("tokens") == [["a"]]


@pytest.mark.parametrize("suffix", [".conll", ".bio", ".iob2", ".CONLL"])
def test_every_suffix_of_columns_is_known(tmp_path, suffix):
    assert read(tmp_path / f"t{suffix}", "a O\n").columns == {"tokens": [["a"]], "tags": [["O"]]}


def test_reading_stops_at_the_limit_before_later_faults(path):
    rows = read(path, "a O\n\nb O\n\nc\n", limit=2)
    assert rows.column("tokens") == [["a"], ["b"]]


def test_real_sentences_survive_the_way_through_columns(path, shared_data):
    rows = read_rows(shared_data / "conll2003" / "dev.jsonl", limit=500)
    sentences = sentences_in(rows)
    assert any(words[0][0] == "#" or '"' in words[0][0] for words in sentences)
    found = select_columns(
        read(path, written(sentences, " ")), Columns(), ("tokens", "tags"), optional=()
    )
    require_iob2(found, Columns())
    assert sentences_in(found) == sentences
