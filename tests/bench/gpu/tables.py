"""Tables of what was measured, as tests/bench/README.md has them."""

from collections.abc import Iterable, Mapping
from typing import Any

Results = Mapping[str, dict[str, Any]]


def table(results: Results) -> str:
    """Return all results as Markdown. results: by name of the part."""
    lines: list[str] = []
    device = results.get("device", {})
    if "name" in device:
        lines.append(
            f"{device['name']}, {device['memory_bytes'] / 2**30:.0f} GiB, PyTorch {device['torch']}"
            f", Triton {device['triton']}; copies {device['bytes_s'] / 1e12:.2f} TB/s, bfloat16 "
            f"products {device['flops_s'] / 1e12:.0f} TFLOP/s."
        )
    if "passed" in (kernels := results.get("kernels", {})):
        lines.append(
            f"Kernels' tests on the card: {kernels['passed']} passed, {kernels['failed']} failed, "
            f"{kernels['skipped']} skipped."
        )
        lines += [f"- {failure}" for failure in kernels["failures"]]
    lines += ["", *_steps(results), "", *_beside(results)]
    lines += [f"- {name}: {each['reason']}" for name, each in results.items() if "reason" in each]
    return "\n".join(lines).strip() + "\n"


def _steps(results: Results) -> Iterable[str]:
    """ms a step, what part of it reading takes, and how much sampling adds to greedy."""
    measured = {
        name: each for name, each in results.items() if "rows" in each and "kernels" in each
    }
    if not measured:
        return
    points = list(
        dict.fromkeys(
            (row["prompt"], row["batch"]) for each in measured.values() for row in each["rows"]
        )
    )
    yield "ms a decode step under Table 3's sampling; share of it that reading takes; sampling's"
    yield ""
    heads = [f"{prompt} in, {batch} at once" for prompt, batch in points]
    yield f"| | {' | '.join(heads)} |"
    yield "|---" * (1 + len(points)) + "|"
    for name, each in measured.items():
        rows = {(row["prompt"], row["batch"]): row for row in each["rows"]}
        yield f"| {name} | {' | '.join(_cell(rows.get(point)) for point in points)} |"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if not row["step_s"]:
        return "no room" if "take" in row["reason"] else "-"
    sampling = 1 - row["greedy_s"] / row["step_s"]
    share = f"{row['share']:.0%}" if row["share"] else "?"
    return f"{row['step_s'] * 1000:.2f}; {share}; {sampling:.0%}"


def _beside(results: Results) -> Iterable[str]:
    """Tokens/s of ours (steps, then through HTTP) beside transformers'."""
    peer, served = results.get("transformers", {}), results.get("server", {})
    model = peer.get("model") or served.get("model")
    ours = results.get(f"{model} bf16", {})
    if not model or ("rows" not in peer and "report" not in served):
        return
    steps = {(row["prompt"], row["batch"]): row["step_s"] for row in ours.get("rows", [])}
    report = served.get("report", {})
    through = {
        level["median"]["concurrency"]: level["median"]["output_tokens_per_s"]
        for level in report.get("levels", [])
    }
    prompt = min((point[0] for point in steps), default=0)
    theirs = {row["batch"]: row for row in peer.get("rows", []) if row["prompt"] == prompt}
    yield f"{model}, tokens/s"
    yield ""
    yield "| at once | steps | through HTTP | transformers generate | its continuous batching |"
    yield "|---|---|---|---|---|"
    for batch in sorted({*theirs, *through}):
        step_s = steps.get((prompt, batch), 0.0)
        row = theirs.get(batch, {})
        cells = [
            batch / step_s if step_s else 0.0,
            through.get(batch, 0.0),
            row.get("generate_tokens_s", 0.0),
            row.get("continuous_tokens_s", 0.0),
        ]
        yield f"| {batch} | {' | '.join(f'{cell:.0f}' if cell else '-' for cell in cells)} |"
