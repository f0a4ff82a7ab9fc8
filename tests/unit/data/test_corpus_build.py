"""Building a corpus: what goes in comes out, and a kill at any moment changes no byte."""

from __future__ import annotations

import contextlib
import itertools
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data import corpus_build, corpus_shards
from potstill.data.corpus import open_corpus
from potstill.data.corpus_blocks import SeenTexts, key_of
from potstill.data.corpus_build import CorpusSettings, build_corpus
from potstill.data.corpus_manifest import CorpusManifest, Tally
from potstill.data.text_keys import normalized
from potstill.errors import DataError, ModelError, OutputError, RecipeError
from potstill.files import write_atomically
from potstill.locks import LOCK, locked
from potstill.stages import stage_of
from potstill.text.tokenizer_files import load_tokenizer
from tests.corpora import (
    SPOKEN,
    built,
    bytes_of,
    sentences,
    texts_of,
    tiny_tokenizer,
    write_jsonl,
    write_text,
)
from tests.tiny import WORDS

# blank, repeated, of unknown words, and plain ones
some_text = st.one_of(
    st.sampled_from(["", "  ", "good film", "Good  FILM", "zzz good", "zzz qqq", "\u00ad", "zzz"]),
    st.lists(st.sampled_from(SPOKEN), min_size=1, max_size=6).map(" ".join),
)
some_files = st.lists(st.lists(some_text, min_size=1, max_size=10), min_size=1, max_size=3)


def slow_twin(texts: list[str]) -> tuple[list[str], Tally]:
    """Say which texts are kept, one after another, and count."""
    seen: set[str] = set()
    kept, counts = [], {"read": len(texts), "empty": 0, "duplicates": 0, "mostly_unknown": 0}
    for text in texts:
        words = normalized(text).split()
        known = [word if word in SPOKEN else "[UNK]" for word in words]
        unknown = known.count("[UNK]")
        if not words:
            counts["empty"] += 1
        elif normalized(text) in seen:
            counts["duplicates"] += 1
        elif words == ["\u00ad"]:  # a soft hyphen: the tokenizer drops it
            counts["empty"] += 1
        elif 2 * unknown >= len(words):
            counts["mostly_unknown"] += 1
        else:
            kept.append(" ".join(known))
            counts["characters"] = counts.get("characters", 0) + len(text)
            counts["unknown_tokens"] = counts.get("unknown_tokens", 0) + unknown
        seen.add(normalized(text))
    tokens = sum(len(text.split()) for text in kept)
    return kept, Tally(**counts, documents=len(kept), tokens=tokens)


@settings(deadline=None, max_examples=30)
@given(some_files, st.integers(1, 30), st.integers(1, 7))
def test_documents_come_out_as_they_went_in(tmp_path_factory, files, shard_tokens, block):
    folder = tmp_path_factory.mktemp("corpus")
    paths = [write_jsonl(folder / f"{n}.jsonl", texts) for n, texts in enumerate(files)]
    kept, tally = slow_twin([text for texts in files for text in texts])
    if not kept:
        with pytest.raises(DataError, match="no document can be kept"):
            built(folder / "corpus", *paths, shard_tokens=shard_tokens, block_documents=block)
        return
    corpus = built(folder / "corpus", *paths, shard_tokens=shard_tokens, block_documents=block)
    assert texts_of(corpus) == kept
    assert corpus.manifest.total == tally
    assert corpus.keys().tolist() == [key_of(text) for text in kept_as_written(files, kept)]
    for entry in corpus.manifest.shards[:-1]:
        assert entry.tally.tokens >= shard_tokens
    other = built(folder / "other", *paths, shard_tokens=shard_tokens)
    assert bytes_of(corpus.folder) == bytes_of(other.folder)


def kept_as_written(files: list[list[str]], kept: list[str]) -> list[str]:
    """Return the first text that gives each kept document."""
    left = [text for texts in files for text in texts]
    found = []
    for document in kept:
        while True:
            text = left.pop(0)
            words = [word if word in SPOKEN else "[UNK]" for word in normalized(text).split()]
            if " ".join(words) == document:
                found.append(text)
                break
    return found


@settings(deadline=None, max_examples=25)
@given(some_files, st.integers(1, 15), st.integers(1, 4), st.integers(0, 40), st.booleans())
def test_a_building_that_was_broken_off_goes_on_to_the_same_bytes(
    tmp_path_factory, files, shard_tokens, block, step, half_written
):
    folder = tmp_path_factory.mktemp("corpus")
    paths = [write_jsonl(folder / f"{n}.jsonl", texts) for n, texts in enumerate(files)]
    if not slow_twin([text for texts in files for text in texts])[0]:
        return
    whole = built(folder / "whole", *paths, shard_tokens=shard_tokens, block_documents=block)
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, step, half_written=half_written)
        with contextlib.suppress(KeyboardInterrupt):
            built(folder / "broken", *paths, shard_tokens=shard_tokens, block_documents=block)
    again = built(folder / "broken", *paths, shard_tokens=shard_tokens)
    assert bytes_of(again.folder) == bytes_of(whole.folder)


def break_at(patch: pytest.MonkeyPatch, step: int, *, half_written: bool) -> None:
    """Break off at the n-th write of a file or coding of a block, as a kill would."""
    steps = iter(range(step + 1))

    def broken(act: Callable) -> Callable:
        def acting(*args, **kwargs):
            if next(steps, None) is None:
                if half_written and isinstance(args[0], Path):
                    part = stage_of(args[0], "1a")
                    part.write_bytes(b"torn")
                raise KeyboardInterrupt
            return act(*args, **kwargs)

        return acting

    for module in ("corpus_shards", "corpus_manifest"):
        patch.setattr(f"potstill.data.{module}.write_atomically", broken(write_atomically))
    patch.setattr(corpus_build.Encoder, "encode", broken(corpus_build.Encoder.encode))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a corpus of several shards, beside its two sources."""
    write_text(tmp_path / "a.txt", sentences(20))
    write_text(tmp_path / "b.txt", sentences(45)[20:])
    again(tmp_path / "corpus")
    return tmp_path / "corpus"


def again(folder: Path, *names: str, **changes: object):
    sources = [folder.parent / name for name in names or ("a.txt", "b.txt")]
    return built(folder, *sources, **{"shard_tokens": 200, "block_documents": 7} | changes)


def test_a_finished_corpus_is_used_again_without_reading_its_sources(folder, monkeypatch):
    before = bytes_of(folder), (folder / "manifest.json").stat().st_mtime_ns

    def refuse(*args, **kwargs):
        raise AssertionError

    for name in ("sha256_of_file", "write_shard", "blocks_of"):
        monkeypatch.setattr(corpus_build, name, refuse)
    corpus = again(folder)
    assert len(corpus.shards) > 3
    assert (bytes_of(folder), (folder / "manifest.json").stat().st_mtime_ns) == before


def test_a_source_that_was_only_touched_is_the_same(folder):
    before = bytes_of(folder)
    (folder.parent / "a.txt").touch()
    again(folder)
    assert bytes_of(folder) == before


@pytest.mark.parametrize("name", ["ids-00002.bin", "ends-00001.npy", "keys-00000.npy"])
@pytest.mark.parametrize("fault", ["cut", "gone"])
def test_a_torn_shard_is_made_again(folder, name, fault):
    before = bytes_of(folder)
    path = folder / name
    path.unlink() if fault == "gone" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"the corpus is damaged: .* what is whole is kept"):
        open_corpus(folder)
    assert again(folder).documents == 45
    assert bytes_of(folder) == before


@pytest.mark.parametrize("name", ["ids-00001.bin", "ends-00001.npy", "keys-00001.npy"])
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_changed_byte_is_seen_and_building_again_mends_it(folder, name, is_finished):
    before = bytes_of(folder)
    change_manifest(folder, lambda told: told.update(is_finished=is_finished))
    content = bytearray((folder / name).read_bytes())
    content[-8] ^= 1  # of the last entry: the file keeps its size
    (folder / name).write_bytes(content)
    if is_finished:
        with pytest.raises(DataError, match=rf"{name}: the corpus is damaged: .* is kept"):
            open_corpus(folder).require_whole()
    again(folder)
    assert bytes_of(folder) == before
    open_corpus(folder).require_whole()


@pytest.mark.parametrize("borders", ["falling", "equal", "below 0", "too far", "too early"])
def test_borders_that_part_no_documents_are_told_without_a_hash(folder, borders):
    ends = np.load(folder / "ends-00001.npy")
    place, value = {
        "falling": (1, ends[2] + 1),
        "equal": (1, ends[0]),
        "below 0": (0, -3),
        "too far": (-1, ends[-1] + 1),
        "too early": (-1, ends[-1] - 1),
    }[borders]
    ends[place] = value
    np.save(folder / "ends-00001.npy", ends)
    told = r"ends-00001\.npy: the corpus is damaged: it does not part \d+ tokens into \d+ doc"
    with pytest.raises(DataError, match=told):
        open_corpus(folder)


def test_counts_that_are_not_those_of_the_files_are_mended_by_building_again(folder):
    before = bytes_of(folder)
    change_manifest(folder, lambda told: told["shards"][1]["tally"].update(documents=2))
    with pytest.raises(DataError, match=r"ends-00001\.npy: the corpus is damaged"):
        open_corpus(folder)
    again(folder)
    assert bytes_of(folder) == before


def change_manifest(folder: Path, change: Callable) -> None:
    told = json.loads((folder / "manifest.json").read_text())
    change(told)
    (folder / "manifest.json").write_text(json.dumps(told))


def test_whole_shards_are_not_made_again(folder, monkeypatch):
    (folder / "ids-00003.bin").unlink()
    made = []

    def noted(folder, number, *args):
        made.append(number)
        return corpus_shards.write_shard(folder, number, *args)

    monkeypatch.setattr(corpus_build, "write_shard", noted)
    corpus = again(folder)
    assert made == list(range(3, len(corpus.shards)))


@pytest.mark.parametrize(
    ("names", "changes", "told"),
    [
        (["a.txt"], {}, "it has 2 sources (a.txt, b.txt), asked for are 1 (a.txt)"),
        (["b.txt", "a.txt"], {}, "its source 1 is a.txt (2"),
        ([], {"shard_tokens": 300}, "its shard_tokens is 200, asked for is 300"),
        ([], {"unknown_share": 0.25}, "its unknown_share is 0.5, asked for is 0.25"),
        ([], {"column": "body"}, "its column is text, asked for is body"),
    ],
)
def test_a_corpus_of_something_else_is_refused_with_the_difference(folder, names, changes, told):
    before = bytes_of(folder)
    with pytest.raises(RecipeError) as caught:
        again(folder, *names, **changes)
    (line,) = str(caught.value).splitlines()
    assert f"another corpus stands here: {told}" in line
    assert line.startswith(str(folder))
    assert bytes_of(folder) == before


def test_a_source_of_other_content_is_refused_with_both_hashes(folder):
    write_text(folder.parent / "b.txt", sentences(46)[20:])
    with pytest.raises(RecipeError, match=r"source 2 is b\.txt \(.*, asked for is b\.txt \("):
        again(folder)


@pytest.mark.parametrize("broken", ['{"txt": "a"}', "", '{"text": "a', '{"text": " "}'])
def test_a_source_that_failed_before_its_first_shard_can_be_mended(broken, tmp_path):
    (tmp_path / "a.jsonl").write_text(broken)
    with pytest.raises(DataError):
        built(tmp_path / "out", tmp_path / "a.jsonl")
    texts = sentences(5)
    assert built(tmp_path / "out", write_jsonl(tmp_path / "a.jsonl", texts)).documents == 5
    with pytest.raises(RecipeError, match="another corpus stands here"):
        built(tmp_path / "out", write_jsonl(tmp_path / "a.jsonl", texts[:3]))


def test_a_corpus_that_another_process_builds_is_not_begun_anew(tmp_path, monkeypatch):
    first = write_text(tmp_path / "first.txt", sentences(30))
    second = write_text(tmp_path / "second.txt", sentences(9))
    out, refused = tmp_path / "out", []
    take = corpus_build._Build._take

    def meanwhile(build, block):  # before the first shard is closed
        if not refused:
            with pytest.raises(OutputError) as caught:
                built(out, second)
            refused.append(str(caught.value))
        take(build, block)

    monkeypatch.setattr(corpus_build._Build, "_take", meanwhile)
    assert built(out, first, shard_tokens=200).documents == 30
    (line,) = refused[0].splitlines()
    assert f"another run is writing here (process {os.getpid()})" in line
    assert "wait for it, or name another --corpus-folder" in line
    assert not (out / LOCK).exists()


def test_a_lock_left_by_a_kill_is_no_stranger(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).write_text("1")
    assert built(tmp_path / "out", write_text(tmp_path / "a.txt", sentences(5))).documents == 5


def test_a_strangers_folder_keeps_its_own_file_of_that_name(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("letter", LOCK):
        (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        built(tmp_path / "out", write_text(tmp_path / "a.txt", sentences(5)))
    assert (tmp_path / "out" / LOCK).read_text() == "mine"


def test_a_finished_corpus_is_opened_whoever_holds_it(folder):
    with locked(folder):
        assert again(folder).documents == open_corpus(folder).documents


def test_another_tokenizer_is_refused(folder, tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("\n".join([*WORDS[:5], *WORDS[:4:-1]]) + "\n")
    other = load_tokenizer(tmp_path / "words", family="bert")
    sources = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with pytest.raises(RecipeError, match="its tokenizer_sha256 is "):
        build_corpus(sources, folder, other, CorpusSettings(shard_tokens=200))
    with pytest.raises(DataError, match="made by another tokenizer"):
        open_corpus(folder).require_tokenizer(other)
    open_corpus(folder).require_tokenizer(tiny_tokenizer())
    change_manifest(folder, lambda told: told["wording"].update(cls_id=7))
    with pytest.raises(DataError, match="made by another tokenizer"):
        open_corpus(folder).require_tokenizer(tiny_tokenizer())


def test_a_folder_of_something_else_is_refused(tmp_path):
    source = write_text(tmp_path / "a.txt", sentences(3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter").write_text("mine")
    for folder, told in [(tmp_path / "out", "folder is not empty"), (source, "is a file")]:
        with pytest.raises(OutputError, match=f"the output {told}.* with --corpus-folder"):
            built(folder, source)


def test_large_vocabularies_get_32_bits(tmp_path):
    words = [f"w{number}" for number in range(65_600)]
    folder = tmp_path / "words"
    folder.mkdir()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(specials + words) + "\n")
    tokenizer = load_tokenizer(folder, family="bert")
    source = write_text(tmp_path / "a.txt", ["w65599 w0 w65535"])
    corpus = build_corpus([source], tmp_path / "corpus", tokenizer)
    assert corpus.document(0).tolist() == [65_604, 5, 65_540]
    assert corpus.manifest.wording.dtype == "<u4"
    assert (tmp_path / "corpus" / "ids-00000.bin").stat().st_size == 12


def test_16_bits_hold_every_id_of_a_smaller_vocabulary(folder):
    assert open_corpus(folder).manifest.wording.dtype == "<u2"
    tokens = open_corpus(folder).total_tokens
    assert sum(path.stat().st_size for path in folder.glob("ids-*")) == 2 * tokens


def test_identity_follows_from_ids_and_borders(tmp_path):
    one = built(tmp_path / "one", write_text(tmp_path / "a.txt", ["good film", "bad plot"]))
    same = built(tmp_path / "same", write_jsonl(tmp_path / "a.jsonl", ["good film", "bad  plot"]))
    other = built(tmp_path / "other", write_text(tmp_path / "b.txt", ["good film bad", "plot"]))
    assert one.identity == same.identity
    assert one.identity != other.identity


def test_progress_is_told_in_bytes_of_all_files(tmp_path):
    sources = [write_text(tmp_path / f"{n}.txt", sentences(30)[n * 9 :]) for n in range(2)]
    told = []
    build_corpus(
        sources,
        tmp_path / "corpus",
        tiny_tokenizer(),
        CorpusSettings(block_documents=4),
        tell=lambda done, total: told.append((done, total)),
    )
    total = sum(source.stat().st_size for source in sources)
    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_books_of_one_line_end_a_block_early(tmp_path, monkeypatch):
    source = write_text(tmp_path / "a.txt", sentences(20))
    whole = built(tmp_path / "whole", source)
    lengths = []

    def noted(self, block, seen, encode=corpus_build.Encoder.encode):
        lengths.append(len(block.texts))
        return encode(self, block, seen)

    monkeypatch.setattr(corpus_build.Encoder, "encode", noted)
    monkeypatch.setattr("potstill.data.corpus_blocks._BLOCK_CHARACTERS", 200)
    assert bytes_of(built(tmp_path / "cut", source).folder) == bytes_of(whole.folder)
    assert max(lengths) < 4


def test_the_manifest_says_where_the_documents_came_from(folder):
    told = json.loads((folder / "manifest.json").read_text())
    assert [source["name"] for source in told["sources"]] == ["a.txt", "b.txt"]
    assert all(len(source["sha256"]) == 64 for source in told["sources"])
    assert told["total"]["read"] == told["total"]["documents"] == 45
    assert (told["shards"][-1]["source"], told["shards"][-1]["place"]) == (1, 25)
    assert str(folder.parent) not in json.dumps(told)
    assert told["seconds"] > 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=6), st.integers(1, 4))
def test_seen_texts_are_those_of_a_plain_set(blocks, settled_every):
    seen, twin = SeenTexts(np.zeros(0, dtype=np.uint64)), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("potstill.data.corpus_blocks._SETTLED_EVERY", settled_every)
        for block in blocks:
            expected = [key not in twin and not twin.add(key) for key in block]
            assert seen.note(np.array(block, dtype=np.uint64)).tolist() == expected


def test_a_tokenizer_of_another_frame_is_refused(tmp_path):
    words = tmp_path / "words"
    tiny_tokenizer().save(words)
    content = json.loads((words / "tokenizer.json").read_text())
    frame = content["post_processor"]["single"]
    content["post_processor"]["single"] = [frame[0], *frame]
    (words / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(words, family="bert")
    source = write_text(tmp_path / "a.txt", sentences(2))
    with pytest.raises(ModelError, match="puts 3 special tokens around a text"):
        build_corpus([source], tmp_path / "corpus", tokenizer)


def test_settings_outside_their_range_are_refused():
    for wrong in ({"shard_tokens": 0}, {"unknown_share": 0.0}, {"block_documents": 0}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            CorpusSettings(**wrong)


@pytest.mark.parametrize("sources", [[], "a.txt", Path("a.txt")])
def test_sources_are_a_list(tmp_path, sources):
    with pytest.raises(RecipeError, match="a corpus needs a list of sources"):
        build_corpus(sources, tmp_path / "corpus", tiny_tokenizer())


def test_tallies_add_up():
    one = Tally(read=3, empty=1, documents=2, tokens=9)
    assert one + Tally(read=2, duplicates=2) == Tally(
        read=5, empty=1, duplicates=2, documents=2, tokens=9
    )
    assert CorpusManifest.__dataclass_fields__["tail"].default == Tally()


def test_a_real_corpus_is_read(shared_data, minilm, tmp_path):
    with lzma.open(shared_data / "corpus" / "wikipedia-00.txt.xz", "rt", encoding="utf-8") as lines:
        texts = list(itertools.islice(lines, 2000))
    source = tmp_path / "wiki.txt.xz"
    source.write_bytes(lzma.compress("".join(texts).encode(), preset=0))
    tokenizer = load_tokenizer(minilm, family="bert")
    settings = CorpusSettings(shard_tokens=50_000)
    corpus = build_corpus([source], tmp_path / "corpus", tokenizer, settings)
    assert corpus.manifest.total.read == 2000
    assert corpus.documents >= 1950
    assert len(corpus.shards) >= 3
    text_of = {key_of(text): text.rstrip("\n") for text in texts}
    for number in (0, 700, corpus.documents - 1):
        expected = tokenizer.encode([text_of[int(corpus.keys()[number])]]).batch.ids[1:-1]
        assert corpus.document(number).tolist() == expected.tolist()


def test_files_of_the_user_in_the_folder_stay(folder):
    for name in ("ids-mine.bin", "notes.txt", "manifest.json.old"):
        (folder / name).write_text("mine")
    (folder / "ids-00002.bin").unlink()
    (folder / "ids-00099.bin").write_bytes(b"left by a kill")
    again(folder)
    for name in ("ids-mine.bin", "notes.txt", "manifest.json.old"):
        assert (folder / name).read_text() == "mine"
    assert not (folder / "ids-00099.bin").exists()
