"""Flags that several verbs share; one declaration each, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _checked_threads(threads: int | None) -> int | None:
    from potstill.hardware import require_threads

    require_threads(threads)
    return threads


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Convert pickle weights once, in a child process."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of all that is random.", min=0)]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads; default: OMP_NUM_THREADS, else what affinity and quota allow.",
        min=1,
        callback=_checked_threads,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Engine = Annotated[str, typer.Option(help="auto, openvino or onnx (CPU), torch.")]
Precision = Annotated[
    str, typer.Option(help="auto, fp32, bf16, fp16 on CUDA, or what the bundle holds.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; must be absent or empty.")]
Train = Annotated[
    str, typer.Option("--train", help="Training rows: .jsonl .csv .tsv .parquet .conll .json hub:")
]
TrainFiles = Annotated[
    list[str],
    typer.Option(
        "--train",
        help="Training rows: .jsonl .csv .tsv .parquet .conll .json hub:. For masked-lm texts: "
        ".txt .jsonl .parquet hub:, also .gz .xz .zst, or a folder built of them; may be repeated.",
    ),
]
Teachers = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        help="Tuned teacher; give several and they are averaged. With --corpus: one model with a "
        "masked-LM head.",
    ),
]
LabelledRows = Annotated[str | None, typer.Option(help="Labelled rows.")]
AugmentWith = Annotated[
    str | None, typer.Option(help="Model with a masked-LM head: makes more texts.")
]
Control = Annotated[
    str | None,
    typer.Option(help="Train a control too: pretrained, tuned, or cut (untaught)."),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        help="Texts for general distillation, or a folder built of them; may be repeated."
    ),
]
Evaluation = Annotated[
    list[str] | None,
    typer.Option(
        help="Of a corpus (masked-lm) only: documents that hold texts of this file are left out; "
        "may be repeated."
    ),
]
Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        help="Of a corpus (masked-lm) only: labelled rows, on which a linear map of the model is "
        "judged on the way; may be repeated.",
    ),
]
TensorBoard = Annotated[
    Path | None, typer.Option("--tensorboard", help="Folder of event files for TensorBoard.")
]
SignalsFolder = Annotated[
    Path | None,
    typer.Option(
        help="With --corpus and --set signals=stored: where the teacher's guesses are kept for "
        "other runs; default: not kept."
    ),
]
CorpusFolder = Annotated[
    Path | None,
    typer.Option(help="Of masked-lm only: where the corpus of ids is kept; default: beside --out."),
]
Dev = Annotated[
    str | None, typer.Option("--dev", help="Rows to choose by; default: carved from --train.")
]
MaxLength = Annotated[int | None, typer.Option(help="Tokens at which a text is cut.", min=3)]
TrainedLength = Annotated[
    int | None,
    typer.Option(
        "--max-length", help="Tokens at which a text is cut; of a corpus at least 16.", min=3
    ),
]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training rows.")]
LearningRate = Annotated[float | None, typer.Option(help="At its peak.")]
BatchTokens = Annotated[int | None, typer.Option(help="Most tokens computed at once.", min=1)]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any field of the recipe: name=value.")
]
FinetuneRecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="standard, bert, imbalanced, small, large (of masked-lm: standard, distilbert), or a "
        "TOML file of settings.",
    ),
]
DistillRecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="standard, aligned, relations, teacher-only; with --corpus: relations (the default), "
        "distilbert, potstill; or a TOML file of settings.",
    ),
]
ForecastRecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="With --teacher: relations (the default), distilbert, potstill; with --model: "
        "standard, distilbert; or a TOML file of settings.",
    ),
]
Primary = Annotated[
    str | None,
    typer.Option(help="Metric to choose and judge by; default: the task's own. f1:LABEL too."),
]
TextColumn = Annotated[str, typer.Option(help="Column of the text.")]
TextPairColumn = Annotated[str, typer.Option(help="Column of the second text, if there is one.")]
LabelColumn = Annotated[str, typer.Option(help="Column of the label, or labels, or number.")]
TokensColumn = Annotated[str, typer.Option(help="Column of a text's words, for entities.")]
TagsColumn = Annotated[str, typer.Option(help="Column of the words' tags, IOB2.")]
LongTexts = Annotated[
    str | None, typer.Option(help="cut, or read in overlapping windows: windows.")
]
Unlabelled = Annotated[
    str | None, typer.Option(help="Texts of the same kind, for the teacher to label.")
]
Task = Annotated[str | None, typer.Option(help="Kind of task; default: classification.")]
ForeignTeacher = Annotated[
    str | None, typer.Option(help="Any transformers model as the teacher: folder or hub:NAME.")
]
TeacherAnswers = Annotated[
    list[str] | None,
    typer.Option(help="File of a teacher's answers, for --train, then for --unlabelled."),
]
Student = Annotated[
    str | None,
    typer.Option(
        help="Pre-trained model that learns, instead of layers of the teacher: folder or hub:NAME."
    ),
]
Layers = Annotated[int | None, typer.Option(help="Layers of the student; default: half.", min=1)]
Choose = Annotated[
    str | None,
    typer.Option(help="Which layers: even, distilbert, bottom, top, and without --corpus search."),
]
Keep = Annotated[str | None, typer.Option(help="Teacher layers by number, from 0: 0,2,4.")]
Pretrained = Annotated[
    str | None, typer.Option(help="Model that the teacher was tuned from, for --control.")
]
Architecture = Annotated[
    str | None, typer.Option(help="Of the student: auto, teacher, distilbert.")
]
Temperature = Annotated[float | None, typer.Option(help="Of the soft targets; above 0.")]
Test = Annotated[str, typer.Option("--test", help="Rows of the proof, answered once, at the end.")]
Floor = Annotated[
    float | None, typer.Option(help="Least retention, such as 0.97; not met: status 3.")
]
Accept = Annotated[
    str | None, typer.Option(help="point: an undecided floor is met by the value alone.")
]
Quantize = Annotated[
    str | None,
    typer.Option(help="Also a quantized student beside it: int8, int8-weights, int4, bf16, none."),
]
QuantizeFloor = Annotated[
    float | None,
    typer.Option(
        help="Least that it keeps of the student in fp32 on dev rows; default: 0.99, of int4 0.98."
    ),
]
TuneStudent = Annotated[
    bool, typer.Option("--tune", help="Measure engines too and store the fastest: minutes.")
]
ControlToo = Annotated[bool, typer.Option("--control", help="Train the control too and show it.")]
PlanAlone = Annotated[bool, typer.Option("--plan", help="Show the plan and leave.")]
ShrunkTask = Annotated[
    str | None, typer.Option(help="Kind of task; default: the teacher's, or classification.")
]
