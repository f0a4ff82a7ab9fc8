"""Signals that ask a training to stop: the first is noted, a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from potstill.train.signals import StopRequest

KINDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {kind: signal.getsignal(kind) for kind in KINDS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may do so under nohup
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_is_noted_and_the_handlers_come_back(kind: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in KINDS]
    with StopRequest() as stop:
        assert not stop.is_made
        signal.raise_signal(kind)
        assert stop.is_made
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
    assert [signal.getsignal(each) for each in KINDS] == before


def test_a_hang_up_that_is_to_be_ignored_is() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert not stop.is_made


def test_a_second_interrupt_is_for_the_handler_before_and_what_it_sets_stays() -> None:
    heard = []

    def interrupt(number: int, frame: object) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, lambda *told: None)
        raise KeyboardInterrupt

    def stop_twice_and_clean_up() -> None:
        with StopRequest():
            signal.raise_signal(signal.SIGINT)
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                heard.append("cleaned up")

    signal.signal(signal.SIGINT, interrupt)
    with pytest.raises(KeyboardInterrupt):
        stop_twice_and_clean_up()
    signal.raise_signal(signal.SIGINT)
    assert heard == [signal.SIGINT, "cleaned up"]
