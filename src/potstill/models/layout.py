"""Where each token of a ragged batch lies while its texts attend: padded, packed or flat.

Everything but attention runs on the N real tokens laid end to end, so padding costs nothing there;
only attention needs to know which tokens belong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.architectures.config import EncoderConfig
from potstill.architectures.fitting import require_fitting
from potstill.errors import RecipeError
from potstill.models.attention import Arrangement, FlatTexts, Rows, has_flat_attention
from potstill.text.packing import pack
from potstill.text.ragged import RaggedBatch

How = Literal["auto", "padded", "packed", "flat"]
HOWS: tuple[How, ...] = get_args(How)

_SHORTEST_PACKED_ROW = 128  # tokens; shorter rows waste their ends


@dataclass(frozen=True, slots=True)
class TextLayout:
    """A ragged batch on a device, ready for an encoder."""

    ids_N: Tensor
    positions_N: Tensor  # rows of the position table, the family's offset added
    token_types_N: Tensor | None  # None: every token is of the first segment
    text_N: Tensor  # number of each token's text
    first_B: Tensor  # where each text begins
    lengths_B: Tensor
    attention: Arrangement
    first_attention: Arrangement  # for a last layer that is computed at the first positions only


def arrange(
    batch: RaggedBatch,
    config: EncoderConfig,
    *,
    device: torch.device | str = "cpu",
    how: How = "auto",
    row_tokens: int | None = None,
) -> TextLayout:
    """Lay out a batch for `config`.

    Args:
        batch: texts of at least one token each.
        config: tells the position offset and the longest text.
        device: where the tensors go.
        how: "padded" rows of one text, "packed" rows of several, "flat" for variable-length
            kernels (CUDA, half precision), or "auto": flat under autocast on CUDA, else the
            cheaper rows.
        row_tokens: width of packed rows; default 128 or the longest text.

    Raises:
        DataError: a text without a token, longer than the position table, or an id that the
            vocabulary does not have.
        RecipeError: flat attention where the device has none.
    """
    require_fitting(batch, config)
    device = torch.device(device)
    padded = _padded_rows(batch, device)
    return TextLayout(
        ids_N=_tensor(batch.ids, device),
        positions_N=_tensor(batch.positions() + np.int32(config.position_offset), device),
        token_types_N=_token_types(batch, config, device),
        text_N=_tensor(batch.text_index(), device),
        first_B=_tensor(batch.offsets[:-1], device),
        lengths_B=_tensor(batch.lengths, device),
        attention=_arrangement(batch, device, how, row_tokens, padded),
        first_attention=padded,
    )


def _arrangement(
    batch: RaggedBatch, device: torch.device, how: How, row_tokens: int | None, padded: Rows
) -> Arrangement:
    if how not in HOWS:
        raise RecipeError(f"no arrangement {how!r}", allowed=", ".join(HOWS))
    if how == "padded":
        return padded
    if how == "auto" and has_flat_attention(device) and torch.is_autocast_enabled(device.type):
        how = "flat"
    if how == "flat":
        if not has_flat_attention(device):
            raise RecipeError(
                f"{device.type} has no variable-length attention",
                allowed="flat on CUDA with a torch that offers varlen_attn",
                cure="use padded or packed",
            )
        return FlatTexts(_tensor(batch.offsets, device, dtype=torch.int32), batch.longest)
    width = row_tokens or packed_width(batch.lengths)
    if how == "auto" and _padded_is_cheaper(batch.lengths, width):
        return padded
    return _packed_rows(batch, device, width)


def packed_width(lengths: NDArray[np.integer]) -> int:
    """Return the width of packed rows, in tokens."""
    return max(_SHORTEST_PACKED_ROW, int(lengths.max()))


def padding_share(lengths: NDArray[np.integer], device: torch.device, *, is_cast: bool) -> float:
    """Return which share of the slots that attention computes for a batch hold no token.

    Args:
        lengths: of the batch's texts.
        device: where it is computed.
        is_cast: half precision, which has attention without slots on CUDA.
    """
    if is_cast and has_flat_attention(device):
        return 0.0
    width = packed_width(lengths)
    if _padded_is_cheaper(lengths, width):
        slots = len(lengths) * int(lengths.max())
    else:
        slots = pack(lengths, row_tokens=width).rows * width
    return 1.0 - int(lengths.sum()) / slots


def _padded_is_cheaper(lengths: NDArray[np.integer], width: int) -> bool:
    packed_cost = int(lengths.sum()) * width  # scores of a full row: width a token
    return len(lengths) * int(lengths.max()) ** 2 <= packed_cost


def _padded_rows(batch: RaggedBatch, device: torch.device) -> Rows:
    width = batch.longest
    slots = batch.text_index().astype(np.int64) * width + batch.positions()
    lengths = _tensor(batch.lengths, device)
    is_full = batch.total_tokens == len(batch) * width
    is_key_BL = torch.arange(width, device=device) < lengths[:, None]
    return Rows(
        slots_N=_tensor(slots, device),
        rows=len(batch),
        width=width,
        attends=None if is_full else is_key_BL[:, None, None, :],
    )


def _packed_rows(batch: RaggedBatch, device: torch.device, row_tokens: int) -> Rows:
    packing = pack(batch.lengths, row_tokens=row_tokens)
    slots = packing.slots()
    # Empty slots form a text of their own: a row of scores without any key would be nan.
    text_RT = np.full(packing.rows * packing.row_tokens, -1, dtype=np.int32)
    text_RT[slots] = batch.text_index()
    text = _tensor(text_RT.reshape(packing.rows, packing.row_tokens), device)
    return Rows(
        slots_N=_tensor(slots, device),
        rows=packing.rows,
        width=packing.row_tokens,
        attends=(text[:, :, None] == text[:, None, :])[:, None],
    )


def _token_types(batch: RaggedBatch, config: EncoderConfig, device: torch.device) -> Tensor | None:
    # RoBERTa has a table of one row, and DistilBERT none: both read every token as type 0.
    if batch.token_types is None or config.token_types < 2:
        return None
    return _tensor(batch.token_types, device)


def _tensor(array: np.ndarray, device: torch.device, *, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)
