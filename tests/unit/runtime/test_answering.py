"""Between rows and answers: how long texts are read, by what a bundle says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from potstill.bundle.manifest import Manifest
from potstill.data.rows import Rows
from potstill.runtime.answering import lengths_of_folder
from potstill.tasks.classification import Classification
from potstill.tasks.question_answering import QuestionAnswering
from potstill.tasks.task import LONG_TEXTS, Lengths, Task
from potstill.tasks.token_classification import TokenClassification
from potstill.workflows.task_facts import task_facts

TASKS: list[Task] = [
    Classification(("no", "yes")),
    TokenClassification(("O", "B-X", "I-X")),
    QuestionAnswering(),
]


@pytest.mark.parametrize("long_texts", LONG_TEXTS)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_bundle_is_read_as_it_was_trained(task: Task, long_texts: str) -> None:
    trained = Lengths(max_length=64, long_texts=long_texts, overlap=20)
    manifest = Manifest(**task_facts(task, task.head("first"), trained, Rows({"text": []}, "rows")))
    read = lengths_of_folder(SimpleNamespace(manifest=manifest), task, max_length=64)
    assert read.long_texts == long_texts
    assert long_texts == "cut" or read.shared_tokens == 20


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_folder_that_says_nothing_is_read_in_the_kind_s_own_way(task: Task) -> None:
    for manifest in (None, Manifest()):
        read = lengths_of_folder(SimpleNamespace(manifest=manifest), task, max_length=64)
        assert (read.long_texts, read.shared_tokens) == (task.long_texts, 16)
