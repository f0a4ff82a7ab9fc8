"""Render stored results into the tables of README and docs, between markers.

    python benchmarks/tables.py                # rewrites every block <!-- NAME:begin --> … :end -->

A test holds the documents equal to what the stored results render, so no number is typed by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
Result = dict[str, Any]


def attention(result: Result) -> str:
    rows = [
        [
            " x ".join(str(size) for size in case["shape"]),
            case["dtype"],
            f"{case['fused_infer_ms']:.2f} / {case['written_infer_ms']:.2f}",
            f"{case['fused_train_ms']:.2f} / {case['written_train_ms']:.2f}",
            f"{case['written_is_times_faster_train']:.1f}",
        ]
        for case in result["cases"]
    ]
    header = [
        "rows x heads x tokens x width",
        "dtype",
        "forward, fused / written (ms)",
        "forward and backward (ms)",
        "written is faster in training, times",
    ]
    return table(header, rows)


def training(result: Result) -> str:
    sides = [
        ("the usual loop: transformers, fp32, padded", result["usual"]),
        ("the same with bf16", result["usual_with_bf16"]),
        ("the same with bf16 and like lengths", result["usual_with_bf16_and_like_lengths"]),
        *[(f"potstill, run {number}", run) for number, run in enumerate(result["ours"], start=1)],
    ]
    base = result["usual"]["tokens_per_second"]
    rows = [
        [
            name,
            f"{run['tokens_per_second']:,}",
            f"{run['tokens_per_second'] / base:.2f}",
            f"{run['steps']:,}",
            f"{run['dev_accuracy']:.4f}",
        ]
        for name, run in sides
    ]
    header = ["", "real tokens/s", "times the usual loop", "steps", "dev accuracy"]
    return table(header, rows)


def heads(result: Result) -> str:
    rows = []
    for task, scores in result["test_accuracy"].items():
        gain = scores["mean_minus_first"]
        rows.append(
            [
                task,
                " ".join(f"{score:.3f}" for score in scores["first"]),
                " ".join(f"{score:.3f}" for score in scores["mean"]),
                " ".join(f"{value:+.3f}" for value in gain["per_seed"]),
                f"{gain['average']:+.4f}",
            ]
        )
    return table(["task", "[CLS], 3 seeds", "mean, 3 seeds", "mean - [CLS]", "average"], rows)


def kills(result: Result) -> str:
    return table(
        [
            *["kills", "steps", "newest checkpoint at each kill", "scores before each kill"],
            *["left a file half-written", "weights equal bit for bit"],
        ],
        [
            [
                str(result["kills"]),
                str(result["steps"]),
                " ".join(str(step) for step in result["checkpoint_at_each_kill"]),
                " ".join(str(count) for count in result["scores_before_each_kill"]),
                str(result["kills_that_left_a_file_half_written"]),
                "yes" if result["weights_equal_bit_for_bit"] else "no",
            ]
        ],
    )


def parity(result: Result) -> str:
    models = [
        [
            name,
            f"{model['parameters']:,}",
            f"{model['bytes']:,}",
            " / ".join(f"{model[key]:.1f}" if key in model else "-" for key in _SECONDS),
            f"{model['load_seconds_transformers']:.2f}",
            f"{model['largest_difference']:.1e}",
        ]
        for name, model in result["models"].items()
    ]
    states = [
        [name, " ".join(f"{value:.0e}" for value in model["per_state"])]
        for name, model in result["models"].items()
    ]
    vectors = {
        f"vectors of {name}, beside sentence-transformers": model["vectors"]
        for name, model in result["models"].items()
        if "vectors" in model
    }
    heads = {f"{name}, tiny": value for name, value in result["heads"].items()}
    outputs = [[name, f"{value:.1e}"] for name, value in (vectors | heads).items()]
    header = [
        "model",
        "parameters",
        "bytes",
        "build / save / load (s)",
        "transformers loads (s)",
        "largest difference",
    ]
    return "\n\n".join(
        [
            table(header, models),
            table(["model", "largest difference of each hidden state, embeddings first"], states),
            table(["what is computed", "largest difference"], outputs),
        ]
    )


def compare_sizes(result: Result) -> str:
    rows = [
        [
            model["name"],
            f"{model['parameters']:,}",
            f"{model['size_bytes'] / 1e6:,.0f}",
            f"{model['peak_memory_bytes'] / 1e6:,.0f}",
            " / ".join(f"{model['latency_ms'][rank]:.1f}" for rank in ("p50", "p95", "p99")),
            f"{model['texts_per_second']:,.1f}",
            f"{model['tokens_per_second']:,.0f}",
            f"{model['speedup']:.2f}",
        ]
        for model in result["models"]
    ]
    header = [
        "model",
        "parameters",
        "weights (MB)",
        "peak memory (MB)",
        "one text, p50 / p95 / p99 (ms)",
        "texts/s",
        "real tokens/s",
        f"times the speed of {result['baseline']}",
    ]
    return table(header, rows)


def classification(result: Result) -> str:
    rows = []
    for row in result["table"]["rows"]:
        kept, over = row["retention"], row["over_control"]
        rows.append(
            [
                row["task"],
                row["metric"],
                f"{row['test_rows']:,}",
                str(len(row["seeds"])),
                f"{row['majority']:.3f}",
                f"{row['teacher']:.4f}",
                f"{row['student']:.4f}",
                f"{row['control']:.4f}",
                f"{kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%})"
                if row["is_solved"]
                else "teacher does not solve this task",
                f"{row['gain_retained']['value']:.1%}" if row["is_solved"] else "-",
                f"{over['value']:+.4f} ({over['low']:+.4f} to {over['high']:+.4f})",
            ]
        )
    header = [
        *("task", "metric", "test rows", "seeds", "majority", "teacher", "student", "control"),
        *("retention (95 %)", "gain retained", "student - control (95 %)"),
    ]
    told = result["table"]
    lines = [f"Mean retention: {told['mean_retention']:.1%}."]
    if told["cells"] < told["of_cells"]:
        lines.append(f"Partial: {told['cells']} of {told['of_cells']} cells are stored.")
    return table(header, rows) + "\n\n" + " ".join(lines)


def tasks(result: Result) -> str:
    rows = []
    for row in result["table"]["rows"]:
        kept, over = row["retention"], row["over_control"]
        rows.append(
            [
                row["task"],
                row["metric"],
                f"{row['train_rows']:,}",
                f"{row['test_rows']:,}",
                str(len(row["seeds"])),
                f"{row['majority']:.3f}",
                f"{row['teacher']:.4f}",
                f"{row['student']:.4f}",
                "-" if row["spread"] != row["spread"] else f"{row['spread']:.4f}",
                f"{row['control']:.4f}",
                f"{kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%})"
                if row["is_solved"]
                else "teacher does not solve this task",
                f"{row['gain_retained']['value']:.1%}" if row["is_solved"] else "-",
                f"{over['value']:+.4f} ({over['low']:+.4f} to {over['high']:+.4f})",
                "yes" if row["half_width"] < 0.04 else f"no (±{row['half_width']:.1%})",
            ]
        )
    header = [
        *("task", "metric", "train rows", "test rows", "seeds", "trivial", "teacher", "student"),
        *("spread over seeds", "control", "retention (95 %)", "gain retained"),
        *("student - control (95 %)", "can show 95 %"),
    ]
    told = result["table"]
    lines = [
        f"Retention over the tasks that the teacher solves: mean {told['mean_retention']:.1%}, "
        f"median {told['median_retention']:.1%}."
    ]
    if told["cells"] < told["of_cells"]:
        lines.append(f"Partial: {told['cells']} of {told['of_cells']} cells are stored.")
    return table(header, rows) + "\n\n" + " ".join(lines)


def segments(result: Result) -> str:
    rows = [
        [
            row["task"],
            row["metric"],
            str(len(row["seeds"])),
            f"{row['teacher']:.4f}",
            f"{row['student']:.4f}",
            "{value:.1%} ({low:.1%} to {high:.1%})".format(**row["retention"]),
        ]
        for row in result["table"]["rows"]
    ]
    header = ["student", "metric", "seeds", "teacher", "student's value", "retention (95 %)"]
    return table(header, rows)


def vectors(result: Result) -> str:
    sides: dict[tuple[str, str], dict[tuple[str, int], float]] = {}
    for row in result["rows"]:
        kept = (row["form"], row["dimensions"])
        value = row["metrics"]["ndcg@10"]["value"]
        sides.setdefault((row["set"], row["side"]), {})[kept] = value
    kinds = list(next(iter(sides.values())))
    size_of = {(row["form"], row["dimensions"]): row["bytes"] for row in result["rows"]}
    rows = [
        [
            form,
            str(dimensions),
            f"{size_of[form, dimensions]:,}",
            *[f"{found[form, dimensions]:.3f}" for found in sides.values()],
        ]
        for form, dimensions in kinds
    ]
    bm25 = {row["set"]: row["bm25"]["ndcg@10"] for row in result["rows"]}
    names = [f"{name}: {side}" for name, side in sides]
    told = ", ".join(f"{name} {value:.3f}" for name, value in bm25.items())
    return table(["form", "dimensions", "bytes", *names], rows) + f"\n\nBM25: {told}."


def search(result: Result) -> str:
    rows = [
        [
            task,
            found["metric"],
            str(len(found["ranking"])),
            f"{found['spearman_of_divergence']:+.2f}",
            f"{found['dev_of_first_ranked']:.3f}",
            *[f"{found['dev_of_choices'][choice]:.3f}" for choice in ("even", "bottom", "top")],
            f"{found['mean_dev']:.3f}",
            f"{found['best_dev']:.3f}",
        ]
        for task, found in result["tasks"].items()
    ]
    header = ["task", "dev metric", "sets", "Spearman", "search's first", "even", "bottom", "top"]
    return table([*header, "mean of all", "best of all"], rows)


def signals(result: Result) -> str:
    rows = [
        [
            name,
            str(case["steps"]),
            f"{case['live_ms_a_step']:.0f}",
            f"{case['stored_ms_a_step']:.0f}",
            f"{case['stored_is_times_faster']:.2f}",
            "yes, to the bit"
            if case["weights_equal_bit_for_bit"]
            else f"to {case['largest_difference_of_weights']:.1e}",
        ]
        for name, case in result["cases"].items()
    ]
    header = ["losses", "steps", "live (ms a step)", "stored (ms a step)", "times faster"]
    return table([*header, "equal weights"], rows)


def distillation(result: Result) -> str:
    names = {
        "original": "the original step, fp32, padded, all positions",
        "ours": "ours, by default (relations)",
        "ours_at_its_objective": "ours, the original's objective",
        "ours_at_a_tenth": "ours, that with the teacher heard at a tenth",
    }
    rows = [
        [
            name,
            f"{result['sides'][side]['tokens_per_second']:,.0f}",
            f"{result['times_faster'][side]:.1f}",
            f"{result['sides'][side]['beyond_bytes'] / 1e9:.2f} GB",
            f"{result['share_of_memory'][side]:.2f}",
        ]
        for side, name in names.items()
    ]
    header = ["one step, BERT-base to DistilBERT", "real tokens/s", "times faster"]
    rates = " and ".join(
        f"{rate / 1e9:,.0f} in {name}" for name, rate in result["products_per_second"].items()
    )
    told = table([*header, "memory of the step", "share of the original's"], rows)
    return f"{told}\n\nLarge matrix products ran at {rates} (GFLOP/s) in the same run."


def stored_words(result: Result) -> str:
    rows = [
        [
            str(row["words"]),
            f"{row['probability']:.2f}",
            f"{row['loss_of_live']:.2f}",
            f"{row['gradient_cosine']:.2f}",
        ]
        for row in result["rows"]
    ]
    header = ["words kept", "their probability", "loss, of the live one", "cosine of gradients"]
    return table(header, rows)


def forecast(result: Result) -> str:
    rows = [
        [
            run["run"],
            f"{run['said_seconds']:,.0f} s",
            f"{run['took_seconds']:,.0f} s",
            f"{run['seconds_said_of_taken']:.2f}",
            f"{run['said_bytes'] / 1e9:.2f} GB",
            f"{run['took_bytes'] / 1e9:.2f} GB",
            f"{run['bytes_said_of_taken']:.2f}",
        ]
        for run in result["runs"]
    ]
    header = ["run", "time said", "time taken", "ratio", "memory said", "memory taken", "ratio"]
    return table(header, rows)


_SECONDS = ("build_seconds", "save_seconds", "load_seconds")

ENGINE_MODELS = {
    "tokens": ("DistilBERT's shape, every token", 84.9e6),
    "cls": ("DistilBERT's shape, [CLS]", 84.9e6),
    "minilm": ("all-MiniLM-L6-v2", 21.2e6),
}  # operations of the layers' products for each token
ENGINE_PEERS = ("transformers", "torch", "onnxruntime", "openvino")


def engine(result: Result) -> str:
    sides = {(row["side"], row["head"]): row for row in result["rows"]}
    return engine_in_bulk(sides, result["ceiling"]["int8"]) + "\n\n" + engine_else(sides)


def engine_in_bulk(sides: dict[tuple[str, str], Result], ceiling: float) -> str:
    rows = []
    for head, (name, operations) in ENGINE_MODELS.items():
        for texts in ("sst2", "ag_news", "imdb"):
            figure = f"{texts}_tokens_per_second"
            peer, best = best_peer(sides, head, figure, max)
            ours = sides["ours int8", head][figure]
            rows.append(
                [
                    *(name, texts, peer, f"{best:,.0f}", f"{ours:,.0f}", f"{ours / best:.2f}"),
                    f"{ours * operations / ceiling:.0%}",
                ]
            )
    header = [
        "model",
        "texts",
        "best peer",
        "its tokens/s",
        "ours, int8",
        "times",
        "of the ceiling",
    ]
    return table(header, rows)


def engine_else(sides: dict[tuple[str, str], Result]) -> str:
    rows = []
    for head, (name, _) in ENGINE_MODELS.items():
        ours, usual = sides["ours int8", head], sides["transformers fp32", head]
        in_order = ours["sst2_in_order_tokens_per_second"]
        bf16 = sides["ours bf16", head]["sst2_tokens_per_second"]
        theirs = sides["openvino bf16", head]["sst2_tokens_per_second"]
        ours_sorted, told = ours["sst2_tokens_per_second"], "sst2, tokens/s"
        sorts = usual["sst2_in_order_tokens_per_second"]
        rows += [
            [name, f"bf16: {told}", "openvino bf16", *versus(theirs, bf16)],
            [name, f"order of arrival: {told}", "ours sorted", *versus(ours_sorted, in_order)],
            [name, f"order of arrival: {told}", "transformers fp32", *versus(sorts, in_order)],
        ]
        for figure, words, best_of in (
            ("queries_per_second", "8-token queries a second, many at once", max),
            ("one_text_p50_ms", "one text of 24 tokens, p50 in ms", min),
            ("query_p50_ms", "one text of 8 tokens, p50 in ms", min),
        ):
            peer, best = best_peer(sides, head, figure, best_of)
            rows.append([name, words, peer, *versus(best, ours[figure])])
    return table(["model", "what", "against", "theirs", "ours", "ours / theirs"], rows)


def cold_start(result: Result) -> str:
    rows = [
        [
            *(side["side"], f"{side['p50_seconds']:.2f}", f"{side['best_seconds']:.2f}"),
            f"{side['peak_bytes'] / 1e6:.0f}",
        ]
        for side in result["sides"]
    ]
    starts = table(["engine", "p50 of 20 starts (s)", "best (s)", "peak (MB)"], rows)
    names = {"source": "fp32", "bf16": "bf16", "openvino-int8": "int8, OpenVINO"}
    names |= {"onnx-int8": "int8, ONNX Runtime", "openvino-int4": "int4, OpenVINO"}
    sizes = [[names[name], f"{result['bytes'][name] / 1e6:.1f}"] for name in names]
    return f"{starts}\n\n{table(['the whole folder', 'MB'], sizes)}"


def memory(result: Result) -> str:
    early, late = result["batches"]
    rows = [
        [
            side["side"],
            *(f"{side[name] / 1e6:.0f}" for name in ("early_bytes", "late_bytes")),
            f"{side['late_of_early']:.2f}",
            *(f"{side[name] / 1e6:.0f}" for name in ("most_early_bytes", "most_late_bytes")),
            f"{side['most_late_of_early']:.2f}",
        ]
        for side in result["sides"]
    ]
    after = [f"after {early} (MB)", f"after {late:,} (MB)", "late / early"]
    most = [f"most until {early} (MB)", f"most until {late:,} (MB)", "late / early, most"]
    return table(["engine", *after, *most], rows)


def quantized(result: Result) -> str:
    copies = {"int8": "int8 keeps", "int4": "int4 keeps", "onnx int8": "ONNX Runtime's int8 keeps"}
    rows = []
    for row in result["rows"]:
        kept = [row["quantized"][name]["retention"] for name in copies]
        told = [f"{each['value']:.1%} ({each['low']:.1%} to {each['high']:.1%})" for each in kept]
        alone = f"{row['fp32']:.4f}" + ("" if row["is_solved"] else ", not solved")
        others = [str(row["other_answers"][engine]) for engine in ("onnx", "torch")]
        names = [row["task"], row["metric"], f"{row['rows']:,}", row["made_for"], alone]
        rows.append([*names, *told, " and ".join(others)])
    beside = "other answers in fp32 by ONNX Runtime and torch"
    alone = ["task", "metric", "test rows", "int8 for", "student in fp32"]
    return table([*alone, *copies.values(), beside], rows)


def saturation(result: Result) -> str:
    rows = [
        [
            each["engine"],
            "fp32" if each["made_for"] == "fp32" else f"int8 for {each['made_for']}",
            f"{each['cosine_mean']:.4f}",
            f"{each['cosine_least']:.3f}",
            f"{each['spearman']:.4f}",
        ]
        for each in result["sides"]
    ]
    header = ["engine", "what", "mean cosine to fp32", "least", "Spearman's correlation on stsb"]
    return table(header, rows)


def general(result: Result) -> str:
    """Tell each preset's training on text, then what tuning makes of each start."""
    trained = [
        [
            name,
            f"{told['train_tokens'] / 1e6:.1f} M",
            f"{told['start']['student']['held_out_loss']:.2f}",
            f"{told['metrics']['held_out_loss']['value']:.2f}",
            f"{told['start']['teacher']['held_out_loss']:.2f}",
        ]
        for name, told in result["students"].items()
    ]
    header = ["preset", "tokens", "held-out loss of the cut", "at the end", "of the teacher"]
    students = table(header, trained)
    rows = []
    for row in result["rows"]:
        spread = f"{min(row['values']):.3f} to {max(row['values']):.3f}"
        names = [row["task"], row["metric"], row["condition"], str(len(row["values"]))]
        beside = [above(row["above_cut"]), above(row["above_task_distillation"])]
        rows.append([*names, f"{row['mean']:.4f}", spread, *beside])
    header = ["task", "metric", "start, or way", "seeds", "mean", "seeds from and to"]
    tuned = table([*header, "above the cut (95 %)", "above task distillation (95 %)"], rows)
    return f"{students}\n\n{tuned}\n\n{apart(result['between_presets'])}"


def apart(pairs: list[Result]) -> str:
    """Tell how far presets lie apart, both ways of tuning beside each other."""
    ways: dict[tuple[str, str, str], dict[bool, str]] = {}
    for pair in pairs:
        seeds = f"{pair['seeds']} seed{'s' * (pair['seeds'] > 1)}"
        told = ways.setdefault((pair["task"], pair["preset"], pair["less"]), {})
        told[pair["is_both_steps"]] = f"{above(pair['apart'])}, {seeds}"
    rows = [[*key, told.get(False, ""), told.get(True, "")] for key, told in ways.items()]
    return table(["task", "preset", "less preset", "tuned alone", "then the task"], rows)


def above(found: list[float] | None) -> str:
    """Tell a difference with its interval; bold where 0 is outside."""
    if found is None or not any(found):
        return ""
    value, low, high = found
    text = f"{value:+.4f} ({low:+.4f} to {high:+.4f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def best_peer(
    sides: dict[tuple[str, str], Result], head: str, figure: str, best_of: Callable[..., float]
) -> tuple[str, float]:
    found = {
        side: row[figure]
        for (side, of), row in sides.items()
        if of == head and side.startswith(ENGINE_PEERS)
    }
    best = best_of(found.values())
    return next(side for side, value in found.items() if value == best), best


def versus(theirs: float, ours: float) -> list[str]:
    digits = 2 if max(theirs, ours) < 100 else 0
    return [f"{theirs:,.{digits}f}", f"{ours:,.{digits}f}", f"{ours / theirs:.2f}"]


RENDERERS: dict[str, Callable[[Result], str]] = {
    "attention": attention,
    "training": training,
    "heads": heads,
    "kills": kills,
    "parity": parity,
    "compare_sizes": compare_sizes,
    "classification": classification,
    "tasks": tasks,
    "segments": segments,
    "shortfall": segments,
    "vectors": vectors,
    "search": search,
    "signals": signals,
    "distillation": distillation,
    "stored_words": stored_words,
    "forecast": forecast,
    "engine": engine,
    "engine_half_rate": engine,
    "cold_start": cold_start,
    "memory": memory,
    "quantized": quantized,
    "saturation": saturation,
    "general": general,
    "kills_general": kills,
}


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rendered(document: str) -> str:
    """Return a document with every known block made from its stored result."""
    for name, renderer in RENDERERS.items():
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            continue
        block = renderer(json.loads(path.read_text()))
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        document = re.sub(
            pattern,
            lambda match, text=block: f"{match[1]}{text}\n{match[2]}",
            document,
            flags=re.DOTALL,
        )
    return document


def documents() -> Iterator[Path]:
    """Yield the files that may hold tables."""
    yield REPOSITORY / "README.md"
    yield from sorted((REPOSITORY / "docs").rglob("*.md"))


def main() -> None:
    for path in documents():
        before = path.read_text()
        after = rendered(before)
        if after != before:
            path.write_text(after)
            print(f"rewrote {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
