"""Hard-label loss: the given class is right, all others are wrong.

Legend: B rows (texts or tokens), C classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from potstill.shapes import expect


def hard_label_loss(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """Return -log softmax(logits)[target] of each row in nats, in fp32.

    Shapes: logits (B, C) and class indices (B,) -> (B,).

    Raises:
        ShapeError: as many targets as rows are needed.
    """
    sizes = expect(logits_BC, "B C", name="logits")
    expect(targets_B, "B", name="targets", B=sizes["B"])
    return cross_entropy(logits_BC.float(), targets_B, reduction="none")
