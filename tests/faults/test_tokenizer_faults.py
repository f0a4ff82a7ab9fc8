"""Broken tokenizer files: one line that names the file, and the line in it; never a stack trace."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from potstill.errors import ModelError, OutputError
from potstill.text.tokenizer_files import load_tokenizer

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet()), "he", "hel"]
MERGES = ["#version: 0.2", "h e", "he l"]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """Return a folder with a small vocab.txt."""
    write_lines(tmp_path / "vocab.txt", BERT)
    return tmp_path


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    """Return a folder with a small vocab.json and merges.txt."""
    ids = {token: index for index, token in enumerate(ROBERTA)}
    write_json(tmp_path / "vocab.json", ids)
    write_lines(tmp_path / "merges.txt", MERGES)
    return tmp_path


@pytest.fixture
def whole(bert: Path) -> Path:
    """Return a folder with a small tokenizer.json alone."""
    load_tokenizer(bert, family="bert").save(bert / "whole")
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (bert / "whole" / name).unlink()
    return bert / "whole"


def test_the_small_folders_are_sound(bert: Path, whole: Path, tmp_path: Path):
    assert load_tokenizer(bert, family="bert").encode(["ab"]).batch.ids.tolist() == [2, 5, 8, 3]
    assert load_tokenizer(whole, family="bert").encode(["ab"]).batch.ids.tolist() == [2, 5, 8, 3]


def test_the_small_byte_pairs_are_sound(roberta: Path):
    ids = load_tokenizer(roberta, family="roberta").encode(["hel"]).batch.ids.tolist()
    assert ids == [0, ROBERTA.index("hel"), 2]


# --- tokenizer.json -------------------------------------------------------------------------------


def test_a_truncated_tokenizer_json_is_refused_wherever_it_ends(whole: Path):
    content = (whole / "tokenizer.json").read_bytes()
    for end in range(0, len(content) - 2, 97):
        (whole / "tokenizer.json").write_bytes(content[:end])
        complaint = refused(whole, "bert")
        assert complaint.startswith(f"{whole / 'tokenizer.json'}: not a whole tokenizer file")


def test_a_damaged_tokenizer_json_is_refused_or_works(whole: Path):
    """Random bytes: what is not refused at load encodes, and tells its ids."""
    content = (whole / "tokenizer.json").read_bytes()
    rng = random.Random(0)
    outcomes = set()
    for _ in range(400):
        place, removed = rng.randrange(len(content)), rng.randrange(1, 9)
        added = bytes([rng.randrange(32, 127)]) if rng.random() < 0.5 else b""
        damaged = content[:place] + added + content[place + removed :]
        (whole / "tokenizer.json").write_bytes(damaged)
        outcomes.add(works_or_is_refused(whole))
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "{}", '"text"', '{"version": "9.0"}', "{" * 5_000, "[" * 100_000]
)
def test_what_is_no_tokenizer_json_is_refused(whole: Path, content: str):
    (whole / "tokenizer.json").write_text(content)
    assert "tokenizer.json: not a whole tokenizer file" in refused(whole, "bert")


def test_a_tokenizer_json_that_is_not_text_is_refused_with_its_line(whole: Path):
    (whole / "tokenizer.json").write_bytes(b'{\n"version": "\xff"}')
    assert "tokenizer.json, line 2: not UTF-8: byte 0xff" in refused(whole, "bert")


def test_a_tokenizer_json_that_is_a_folder_is_refused(whole: Path):
    (whole / "tokenizer.json").unlink()
    (whole / "tokenizer.json").mkdir()
    assert "tokenizer.json: cannot be read: Is a directory" in refused(whole, "bert")


@pytest.mark.parametrize("missing", ["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
def test_a_whole_file_without_a_needed_token_is_refused(whole: Path, missing: str):
    def forget(content: dict) -> None:
        del content["model"]["vocab"][missing]
        content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != missing]

    change(whole, forget)
    assert f"'{missing}' is not in the vocabulary" in refused(whole, "bert")


def test_an_added_token_does_not_stand_in_for_a_lost_word_piece(whole: Path):
    change(whole, lambda content: content["model"]["vocab"].pop("[UNK]"))
    assert "unk_token '[UNK]' is not in the vocabulary" in refused(whole, "bert")


def test_a_file_that_puts_nothing_around_a_text_is_refused(whole: Path):
    change(whole, lambda content: content.update(post_processor=None))
    complaint = refused(whole, "bert")
    assert "the special tokens around a text have the ids [], not [2, 3]" in complaint
    assert "allowed: [CLS] TEXT [SEP]" in complaint


def test_a_file_that_puts_other_tokens_around_a_text_is_refused(whole: Path):
    frame = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[MASK]", 4]}
    change(whole, lambda content: content.update(post_processor=frame))
    assert "have the ids [4, 3], not [2, 3]" in refused(whole, "bert")


def test_a_vocabulary_that_fails_at_an_unknown_sign_is_refused(whole: Path):
    def without_unknown(content: dict) -> None:
        pieces = [[token, 0.0] for token in content["model"]["vocab"]]
        content["model"] = {"type": "Unigram", "unk_id": None, "vocab": pieces}

    change(whole, without_unknown)
    assert "a text cannot be encoded (Encountered an unknown token" in refused(whole, "bert")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("pair", lambda frame: frame["special_tokens"].pop("[SEP]")),
        ("single", lambda frame: frame["single"].append({"Sequence": {"id": "B", "type_id": 0}})),
        ("pair", lambda frame: frame["pair"].pop(3)),
        ("single", lambda frame: frame["single"].pop(1)),
    ],
)
def test_a_template_that_would_abort_the_library_is_refused(
    whole: Path, capfd: pytest.CaptureFixture[str], name: str, damage: Callable
):
    change(whole, lambda content: damage(content["post_processor"]))
    complaint = refused(whole, "bert")
    assert "tokenizer.json" in complaint
    assert capfd.readouterr().err == ""


def test_an_embedded_truncation_or_padding_is_switched_off(whole: Path):
    def cut_and_pad(content: dict) -> None:
        content["truncation"] = {
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
            "direction": "Right",
        }
        content["padding"] = {
            "strategy": {"Fixed": 4},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        }

    change(whole, cut_and_pad)
    tokenizer = load_tokenizer(whole, family="bert")
    assert tokenizer.encode(["a", "a b a b"]).batch.lengths.tolist() == [3, 6]
    assert tokenizer.encode(["a"], max_length=3).batch.lengths.tolist() == [3]
    assert tokenizer.max_length is None


# --- vocabulary files -----------------------------------------------------------------------------


def test_a_line_that_stands_twice_is_refused_with_both_lines(bert: Path):
    write_lines(bert / "vocab.txt", [*BERT, "c", "a"])
    assert "vocab.txt, line 11: 'a' stands on line 6 too" in refused(bert, "bert")


def test_a_vocabulary_that_is_not_utf8_is_refused_with_its_line(bert: Path):
    (bert / "vocab.txt").write_bytes("\n".join(BERT).encode() + b"\nM\xfcnchen\n")
    assert "vocab.txt, line 10: not UTF-8: byte 0xfc" in refused(bert, "bert")


@pytest.mark.parametrize("missing", ["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
def test_a_vocabulary_without_a_needed_token_is_refused(bert: Path, missing: str):
    write_lines(bert / "vocab.txt", [token for token in BERT if token != missing])
    complaint = refused(bert, "bert")
    assert f"vocab.txt: {missing[1:-1].lower()}_token '{missing}' is not in the voc" in complaint
    assert "special_tokens_map.json" in complaint


def test_a_token_under_another_name_is_found_in_either_form(bert: Path):
    write_lines(bert / "vocab.txt", ["<p>", "<u>", "<c>", "<s>", "<m>", "a"])
    names = {"pad_token": "<p>", "unk_token": {"content": "<u>"}, "cls_token": "<c>"}
    write_json(bert / "tokenizer_config.json", names)
    others = {"sep_token": {"content": "<s>", "lstrip": False}, "mask_token": "<m>"}
    write_json(bert / "special_tokens_map.json", others)
    tokenizer = load_tokenizer(bert, family="bert")
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.encode(["a <m> z"]).batch.ids.tolist() == [2, 5, 4, 1, 3]


def test_windows_line_ends_do_not_change_the_vocabulary(bert: Path):
    before = load_tokenizer(bert, family="bert").canonical_bytes()
    (bert / "vocab.txt").write_bytes("\r\n".join([*BERT, ""]).encode())
    assert load_tokenizer(bert, family="bert").canonical_bytes() == before


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([*MERGES, "h e l"], "merges.txt, line 4: 'h e l' is no merge"),
        ([*MERGES, "hel"], "merges.txt, line 4: 'hel' is no merge"),
        ([*MERGES[:2], "e y", *MERGES[2:]], "merges.txt, line 3: 'ey' is not in vocab.json"),
        ([*MERGES, "xx y"], "merges.txt, line 4: 'xx' is not in vocab.json"),
    ],
)
def test_merges_that_do_not_fit_are_refused_with_their_line(
    roberta: Path, lines: list[str], complaint: str
):
    write_lines(roberta / "merges.txt", lines)
    assert complaint in refused(roberta, "roberta")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"a": 0,\n"b": }', "vocab.json, line 2: not JSON: Expecting value"),
        ('["a"]', "vocab.json: holds a JSON list; allowed: a JSON object"),
        ('{"a": 0, "b": 0}', "vocab.json: 'a' and 'b' share the id 0"),
        ('{"a": "0"}', "vocab.json: the id of 'a' is '0'"),
        ('{"a": -1}', "vocab.json: the id of 'a' is -1"),
        ('{"a": true}', "vocab.json: the id of 'a' is True"),
        ("[" * 100_000, "vocab.json: nested too deeply"),
    ],
)
def test_a_broken_vocab_json_is_refused(roberta: Path, content: str, complaint: str):
    (roberta / "vocab.json").write_text(content)
    assert complaint in refused(roberta, "roberta")


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tokenizer_config", {"do_lower_case": "yes"}, "do_lower_case is 'yes'; allowed: true, "),
        ("tokenizer_config", {"strip_accents": 1}, "strip_accents is 1; allowed: true, false or"),
        ("tokenizer_config", {"truncation_side": "up"}, "truncation_side is 'up'; allowed:"),
        ("tokenizer_config", {"truncation_side": []}, "truncation_side is []; allowed:"),
        ("tokenizer_config", {"cls_token": 7}, "cls_token is 7; allowed:"),
        ("special_tokens_map", {"cls_token": {"token": "x"}}, "cls_token is {'token': 'x'}; all"),
        ("special_tokens_map", {"sep_token": {"content": "a", "lstrip": 3}}, "sep_token is {"),
        ("special_tokens_map", {"mask_token": "[M]"}, "mask_token '[M]' is not in the vocabulary"),
        ("special_tokens_map", {"additional_special_tokens": 5}, "additional_special_tokens is 5"),
        ("special_tokens_map", {"additional_special_tokens": [5]}, "additional_special_tokens is"),
        ("tokenizer_config", {"added_tokens_decoder": [1]}, "added_tokens_decoder is not by ids"),
        ("tokenizer_config", {"added_tokens_decoder": {"x": "a"}}, "added_tokens_decoder is not"),
        ("added_tokens", {"<new>": 11}, "the added token '<new>' has the id 11, but 9 is its"),
        ("added_tokens", {"<new>": "9"}, "the id of '<new>' is '9'"),
        ("tokenizer_config", [], "tokenizer_config.json: holds a JSON list"),
    ],
)
def test_a_broken_setting_is_refused_by_name(bert: Path, name: str, content, complaint: str):
    write_json(bert / f"{name}.json", content)
    assert complaint in refused(bert, "bert")


def test_rules_of_another_class_are_not_guessed_from_the_vocabulary(bert: Path):
    write_json(bert / "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"})
    complaint = refused(bert, "bert")
    assert "vocab.txt does not hold the rules of BertJapaneseTokenizer" in complaint
    assert "save_pretrained" in complaint


def test_code_that_a_config_names_is_never_run(bert: Path):
    trap = f"open({str(bert / 'sprung')!r}, 'w').close()"
    (bert / "evil.py").write_text(trap)
    code = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}}
    write_json(bert / "tokenizer_config.json", code)
    load_tokenizer(bert, family="bert").save(bert / "saved")
    assert not (bert / "sprung").exists()
    assert "evil" not in (bert / "saved" / "tokenizer_config.json").read_text()


# --- absent files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "complaint"),
    [
        ("bert", "no tokenizer.json, and no vocab.txt; allowed: tokenizer.json, or vocab.txt"),
        ("distilbert", "no tokenizer.json, and no vocab.txt"),
        ("roberta", "no tokenizer.json, and no vocab.json or merges.txt; allowed: tokenizer.json"),
        ("xlm-roberta", "no tokenizer.json, and sentencepiece files are not read"),
    ],
)
def test_a_folder_without_a_tokenizer_says_what_it_needs(
    tmp_path: Path, family: str, complaint: str
):
    assert complaint in refused(tmp_path, family)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_sentencepiece_file_alone_comes_with_the_way_out(tmp_path: Path, family: str):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"\x0a\x0e")
    complaint = refused(tmp_path, family)
    assert "sentencepiece files are not read; allowed: tokenizer.json" in complaint
    assert f"transformers.AutoTokenizer.from_pretrained('{tmp_path}').save_pretrained" in complaint


def test_a_vocab_json_without_its_merges_is_refused(roberta: Path):
    (roberta / "merges.txt").unlink()
    assert "no tokenizer.json, and no merges.txt" in refused(roberta, "roberta")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    assert "no such model folder" in refused(tmp_path / "absent", "bert")


def test_a_place_that_cannot_be_written_is_refused(bert: Path):
    with pytest.raises(OutputError, match=r"vocab\.txt"):
        load_tokenizer(bert, family="bert").save(bert / "vocab.txt")


def refused(folder: Path, family: str) -> str:
    """Return the one line that refuses the folder; it names the folder."""
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder, family=family)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(str(folder))
    return line


def works_or_is_refused(folder: Path) -> bool:
    try:
        tokenizer = load_tokenizer(folder, family="bert")
    except ModelError:
        return False
    tokenizer.encode(["a zebra", "b"], ["\u00e9", ""], max_length=6, with_offsets=True)
    assert tokenizer.vocabulary_size > max(tokenizer.special_ids)
    assert tokenizer.canonical_bytes()
    return True


def change(folder: Path, how: Callable[[dict], object]) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    how(content)
    write_json(folder / "tokenizer.json", content)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
