"""An encoder with its head: what is trained, saved and run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from potstill.architectures.config import EncoderConfig
from potstill.architectures.heads import HeadSpec
from potstill.architectures.names import needs_pooler
from potstill.models.encoder import Encoder, EncoderOutput
from potstill.models.heads import build_head, pooled
from potstill.models.layout import TextLayout
from potstill.models.noise import Noise


class TaskModel(nn.Module):
    """An encoder and, where the spec names one, a head."""

    def __init__(self, config: EncoderConfig, spec: HeadSpec | None = None) -> None:
        super().__init__()
        self.spec = spec or HeadSpec()
        if self.spec.kind != "none":
            config = replace(config, pooler=needs_pooler(config.family, self.spec))
        self.encoder = Encoder(config)
        self.head = build_head(self.encoder, self.spec)

    @property
    def config(self) -> EncoderConfig:
        """Return the encoder's sizes."""
        return self.encoder.config

    def forward(
        self, layout: TextLayout, *, noise: Noise | None = None, keep_states: bool = False
    ) -> tuple[Tensor, EncoderOutput]:
        """Return the head's outputs, (B, C) or (N, C or V), and the encoder's output.

        They are logits, of an embedding head vectors.

        The last layer is computed only where the head reads it, unless all states are kept.
        """
        output = self.encode(layout, noise=noise, keep_states=keep_states)
        return self.logits(output, layout, noise=noise), output

    def encode(
        self,
        layout: TextLayout,
        *,
        noise: Noise | None = None,
        keep_states: bool = False,
        at_P: Tensor | None = None,
        depth: int | None = None,
    ) -> EncoderOutput:
        """Return the encoder's output with what this head reads, or its last at some tokens.

        Args are those of `Encoder`.
        """
        first_only = self.spec.reads_first_position_only and not keep_states
        output: EncoderOutput = self.encoder(
            layout,
            noise=noise,
            keep_states=keep_states,
            first_only=first_only,
            at_P=at_P,
            depth=depth,
        )
        return output

    def logits(
        self, output: EncoderOutput, layout: TextLayout, *, noise: Noise | None = None
    ) -> Tensor:
        """Return the head's logits for an encoder output."""
        assert self.head is not None, "a bare encoder has no logits"
        if self.spec.answers_whole_texts:
            features = pooled(self.encoder, output, layout, self.spec)
        else:
            features = output.last
        logits: Tensor = self.head(features, noise)
        return logits

    @torch.no_grad()
    def initialize(self, seed: int, *, only: frozenset[str] | None = None) -> None:
        """Draw fresh weights: normal with the config's deviation; norms one, biases zero.

        Args:
            seed: the same seed gives the same weights, whatever else was drawn before.
            only: names of the parameters to draw; None: all.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if only is not None and name not in only:
                continue
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, self.config.initializer_range, generator=generator)
