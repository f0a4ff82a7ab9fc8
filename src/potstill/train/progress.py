"""What a run tells while it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from potstill.files import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One moment of a run."""

    step: int
    total_steps: int
    losses: Mapping[str, float]  # mean of each term since the last moment told
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float  # real tokens, since the last moment told
    remaining_s: float
    score: float | None = None  # dev score, where it was just taken
    best_score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)  # what the score is made of, by name
    peak_bytes: int = 0  # the most memory held so far, on the card where there is one
    padding_share: float = 0.0  # of what attention computed at the last step
    run: str = ""  # which of several trainings of one verb this is
    went_on_from: int = 0  # the step of the checkpoint that this process took up

    def line(self) -> str:
        """Return it for people, in one line."""
        if not self.total_steps:  # see `notice`
            return self.run
        losses = " ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
        parts = [
            f"{self.run}: step {self.step}/{self.total_steps}".removeprefix(": "),
            losses,
            f"{self.tokens_per_second:,.0f} tokens/s" if self.tokens_per_second else "",
            f"{clock(self.remaining_s)} left",
        ]
        if self.score is not None:
            parts.append(f"dev {self.score:.4f}")
        parts += [f"{name} {value:.4f}" for name, value in self.parts.items()]
        if self.best_score is not None:
            parts.append(f"best {self.best_score:.4f}")
        return " · ".join(part for part in parts if part)


Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """A score, and what is told beside it."""

    value: float  # greater is better
    parts: Mapping[str, float] = field(default_factory=dict)


def named(listener: Listener, run: str) -> Listener:
    """Return a listener that is told which training each moment is of."""

    def tell(progress: Progress) -> None:
        listener(replace(progress, run=", ".join(part for part in (run, progress.run) if part)))

    return tell


def counting(listeners: Sequence[Listener], run: str) -> Callable[[int, int], None]:
    """Return a function that tells listeners of work that is counted: (done, of all)."""
    began = time.perf_counter()

    def tell(done: int, total: int) -> None:
        elapsed = time.perf_counter() - began
        moment = Progress(
            step=done,
            total_steps=total,
            losses={},
            learning_rate=0.0,
            gradient_norm=0.0,
            tokens_per_second=0.0,
            remaining_s=elapsed * (total - done) / max(done, 1),
            run=run,
        )
        for listener in listeners:
            listener(moment)

    return tell


def notice(listeners: Sequence[Listener], words: str) -> None:
    """Tell listeners, once, of something that has no steps: that a run waits, and for whom."""
    moment = Progress(
        step=0,
        total_steps=0,
        losses={},
        learning_rate=0.0,
        gradient_norm=0.0,
        tokens_per_second=0.0,
        remaining_s=0.0,
        run=words,
    )
    for listener in listeners:
        listener(moment)


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What is known of one step beside its losses."""

    learning_rate: float
    gradient_norm: float
    peak_bytes: int = 0
    padding_share: float = 0.0


@dataclass(slots=True)
class Meter:
    """Adds up losses, tokens and time between the moments that are told."""

    total_steps: int
    every_s: float = 1.0
    _began: float = field(default_factory=time.perf_counter, init=False)
    _told: float = field(default_factory=time.perf_counter, init=False)
    _losses: dict[str, float] = field(default_factory=dict, init=False)
    _steps: int = field(default=0, init=False)
    _tokens: int = field(default=0, init=False)
    _all_steps: int = field(default=0, init=False)

    def add(self, losses: Mapping[str, float], tokens: int) -> None:
        """Note one optimizer step."""
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, 0.0) + value
        self._steps += 1
        self._all_steps += 1
        self._tokens += tokens

    @property
    def is_due(self) -> bool:
        """Tell whether it is time to say something."""
        return time.perf_counter() - self._told >= self.every_s

    def moment(
        self,
        step: int,
        facts: StepFacts,
        scored: Scored | None = None,
        best_score: float | None = None,
    ) -> Progress:
        """Return what happened since the last moment and begin the next."""
        now = time.perf_counter()
        seconds, steps = max(now - self._told, 1e-9), max(self._steps, 1)
        per_step = (now - self._began) / max(self._all_steps, 1)
        progress = Progress(
            step=step,
            total_steps=self.total_steps,
            losses={name: value / steps for name, value in self._losses.items()},
            learning_rate=facts.learning_rate,
            gradient_norm=facts.gradient_norm,
            tokens_per_second=self._tokens / seconds,
            remaining_s=per_step * (self.total_steps - step),
            score=scored.value if scored else None,
            best_score=best_score,
            parts=scored.parts if scored else {},
            peak_bytes=facts.peak_bytes,
            padding_share=facts.padding_share,
            went_on_from=step - self._all_steps,
        )
        self._told, self._losses, self._steps, self._tokens = now, {}, 0, 0
        return progress


LOG_NAME = "log.jsonl"


def log_to(path: Path) -> Listener:
    """Return a listener that appends each moment to a JSONL file.

    What stands there of steps that this process does anew, or of a run that left no checkpoint, is
    taken out first, so that each step stands there once.
    """
    is_begun = False

    def append(progress: Progress) -> None:
        nonlocal is_begun
        if not is_begun:
            _forget_after(path, progress.went_on_from)
            is_begun = True
        record = {name: getattr(progress, name) for name in Progress.__slots__}
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, default=dict) + "\n")

    return append


def _forget_after(path: Path, step: int) -> None:
    """Keep the lines of steps up to this one; a line that a kill tore goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            is_kept = json.loads(line)["step"] <= step
        except (ValueError, KeyError, TypeError):
            continue
        if is_kept:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept).encode())


def clock(seconds: float) -> str:
    """Return a time as h:mm:ss, or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
