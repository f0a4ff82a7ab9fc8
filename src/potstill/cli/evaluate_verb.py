"""`potstill evaluate MODEL --test F`."""

from __future__ import annotations

from typing import Annotated

import typer

from potstill.cli import flags
from potstill.cli.columns import columns_named


def evaluate(  # noqa: PLR0913 - a verb's flags are its parameters
    model: Annotated[str, typer.Argument(help="Model folder, or hub:NAME.")],
    *,
    test: Annotated[
        str, typer.Option("--test", help="Labelled rows; of vectors also a folder of retrieval.")
    ],
    primary: flags.Primary = None,
    text_column: flags.TextColumn = "text",
    text_pair_column: flags.TextPairColumn = "text_pair",
    label_column: flags.LabelColumn = "label",
    tokens_column: flags.TokensColumn = "tokens",
    tags_column: flags.TagsColumn = "tags",
    max_length: flags.MaxLength = None,
    index: Annotated[
        str | None, typer.Option(help="Of vectors: model that made the documents' vectors.")
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(help="Of vectors: the first so many alone.", min=1)
    ] = None,
    form: Annotated[
        str, typer.Option(help="Of vectors: float32, float16, int8 or binary.")
    ] = "float32",
    engine: flags.Engine = "auto",
    precision: flags.Precision = "auto",
    seed: flags.Seed = None,
    threads: flags.Threads = None,
    device: flags.Device = "auto",
    allow_pickle: flags.AllowPickle = False,
    json: flags.Json = False,
) -> None:
    """Judge a model on labelled rows."""
    from potstill.cli.render import print_json
    from potstill.cli.render_evidence import print_evaluation
    from potstill.workflows.evaluate import EvaluateOptions
    from potstill.workflows.evaluate import evaluate as run

    options = EvaluateOptions(
        primary=primary,
        columns=columns_named(
            text_column, text_pair_column, label_column, tokens_column, tags_column
        ),
        max_length=max_length,
        index=index,
        dimensions=dimensions,
        form=form,
        engine=engine,
        precision=precision,
        device=device,
        threads=threads,
        seed=seed or 0,
        allow_pickle=allow_pickle,
    )
    found = run(model, test, options)
    if json:
        print_json(found.to_json())
    else:
        print_evaluation(found)
