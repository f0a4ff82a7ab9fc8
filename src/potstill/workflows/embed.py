"""`embed`: a file of rows to a file of vectors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from potstill.data.columns import Columns, select_columns
from potstill.data.readers import read_rows
from potstill.errors import OutputError
from potstill.files import require_writable_file, write_atomically
from potstill.runtime.model import load

SUFFIXES = (".npy",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """How texts are read and run."""

    text_column: str = "text"
    max_length: int | None = None  # tokens; None: what the folder says
    precision: str = "auto"
    threads: int | None = None
    device: str = "auto"
    allow_pickle: bool = False


def embed(model: str, source: str, output: Path, options: EmbedOptions) -> dict[str, Any]:
    """Write the vectors of all rows, (B, D) float32, whole or not at all.

    Raises:
        InputError: wrong model, rows or output.
        StorageError: the disk is full.
    """
    if output.suffix not in SUFFIXES:
        raise OutputError(
            f"unknown kind of file {output.suffix!r}",
            where=str(output),
            allowed=", ".join(SUFFIXES),
        )
    require_writable_file(output)
    columns = Columns(text=options.text_column)
    rows = select_columns(read_rows(source), columns, required=("text",), optional=())
    loaded = load(
        model,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        max_length=options.max_length,
        allow_pickle=options.allow_pickle,
    )
    encoded = loaded.encode(rows.column("text"))
    vectors_BD = loaded.engine.run(encoded.batch, ["vectors"])["vectors"]
    stream = io.BytesIO()
    np.save(stream, vectors_BD, allow_pickle=False)
    write_atomically(output, stream.getvalue())
    return {
        "output": str(output),
        "rows": int(vectors_BD.shape[0]),
        "width": int(vectors_BD.shape[1]),
        "truncated": int(np.count_nonzero(encoded.truncated)),
        "precision": loaded.engine.precision,
    }
