"""How near are a teacher's likeliest words to the teacher? Loss and gradient, beside the live ones.

Stored signals keep the likeliest words at each position and one outcome for all others. MODEL is a
teacher with a masked-LM head; the student is its cut to half the layers, untrained.

    python benchmarks/experiment_stored_words.py MODEL
"""

from __future__ import annotations

import lzma
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facts import SHARED_DATA, store
from torch.nn.functional import cosine_similarity, log_softmax

from potstill.bundle.folder import open_folder
from potstill.distillation.layers import choose_layers
from potstill.distillation.student import cut_student, student_config
from potstill.losses.vocabulary import Decoder, TopWords, vocabulary_losses
from potstill.models.layout import arrange
from potstill.models.loading import load_task_model
from potstill.text.masking import MaskingShares, masking_for
from potstill.train.masked_lm_objective import decoder_at

PASSAGES, SHORTEST, LONGEST = 64, 300, 128  # passages, characters of one, tokens of one
TEMPERATURE, KEPT = 2.0, (16, 64, 256)


def main() -> None:
    folder = open_folder(Path(sys.argv[1]))
    teacher, tokenizer = load_task_model(folder), folder.tokenizer()
    kept = choose_layers(folder.config.layers, folder.config.layers // 2, choice="distilbert")
    student = cut_student(teacher, student_config(folder.config, len(kept)), kept)
    texts = tokenizer.encode(passages(), max_length=LONGEST).batch
    masked = masking_for(tokenizer, MaskingShares()).masked(texts, np.random.default_rng(0))
    places = torch.from_numpy(masked.places)
    with torch.no_grad():
        output = teacher.encode(arrange(masked.texts, teacher.config), at_P=places)
        says = decoder_at(teacher, output.last)
        logits = says.logits(torch.arange(len(places)), torch.float32)
    log_p = log_softmax(logits / TEMPERATURE, dim=-1)
    live, live_gradient = learned(student, masked, says)
    rows = []
    for count in KEPT:
        values, words = log_p.topk(count, dim=-1)
        loss, gradient = learned(student, masked, TopWords(words, values.half().float()))
        rows.append(
            {
                "words": count,
                "probability": round(float(values.exp().sum(-1).mean()), 3),
                "loss_of_live": round(loss / live, 3),
                "gradient_cosine": round(float(cosine_similarity(live_gradient, gradient, 0)), 3),
            }
        )
    result = {"positions": len(places), "temperature": TEMPERATURE, "rows": rows}
    store("stored_words", {"teacher": folder.config.family, **result})


def passages() -> list[str]:
    with lzma.open(SHARED_DATA / "corpus" / "wikipedia-00.txt.xz", "rt") as stream:
        long = (line for line in stream if len(line) > SHORTEST)
        return [line for line, _ in zip(long, range(PASSAGES), strict=False)]


def learned(student: Any, masked: Any, teacher: Decoder | TopWords) -> tuple[float, torch.Tensor]:
    """Return the mean loss of the hidden tokens and its gradient, laid end to end."""
    student.zero_grad()
    places = torch.from_numpy(masked.places)
    output = student.encode(arrange(masked.texts, student.config), at_P=places)
    own = decoder_at(student, output.last, output.words_VD)
    targets = torch.from_numpy(masked.targets)
    soft, _ = vocabulary_losses(own, targets, teacher, temperature=TEMPERATURE)
    soft.backward()
    parts = [each.grad.flatten() for each in student.parameters() if each.grad is not None]
    return float(soft.detach()) / len(places), torch.cat(parts)


if __name__ == "__main__":
    main()
