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
    for name, each in results.items():
        if "failures" in each:
            lines.append(
                f"Tests of {name} {each['place']}: {each['passed']} passed, "
                f"{each['failed']} failed, {each['skipped']} skipped."
            )
            lines += [f"- {failure}" for failure in each["failures"]]
    if "texts" in (shared := results.get("two ranks on one card", {})):
        lines.append(
            f"Two ranks on one card: of {shared['texts']} texts {shared['equal']} are those of one "
            f"rank, {shared['begun']} begin alike."
        )
    lines += ["", *_steps(results), "", *_beside(results), "", *_sums(results)]
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


def _through(report: Mapping[str, Any]) -> dict[int, float]:
    """Return tokens/s by streams of what `bench serve` reported."""
    return {
        level["median"]["concurrency"]: level["median"]["output_tokens_per_s"]
        for level in report.get("levels", [])
    }


def _sums(results: Results) -> Iterable[str]:
    """us of a sum over cards, by bytes: as the group chooses, and by NCCL alone."""
    measured = [each for each in results.values() if "sums" in each]
    if not measured:
        return
    sizes = [row["bytes"] for row in measured[0]["sums"]]
    yield "us a sum over ranks with a card each: as chosen; by NCCL"
    yield ""
    yield f"| | {' | '.join(f'{size >> 10} KiB' for size in sizes)} |"
    yield "|---" * (1 + len(sizes)) + "|"
    for each in measured:
        cells = [f"{r['chosen_s'] * 1e6:.0f}; {r['group_s'] * 1e6:.0f}" for r in each["sums"]]
        yield f"| {each['description']} | {' | '.join(cells)} |"


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
    through = _through(report)
    prompt = min((point[0] for point in steps), default=0)
    theirs = {row["batch"]: row for row in peer.get("rows", []) if row["prompt"] == prompt}
    yield f"{model}, tokens/s"
    yield ""
    several = {
        name: _through(each["report"])
        for name, each in results.items()
        if name.startswith("server tp") and "report" in each
    }
    heads = ["at once", "steps", "through HTTP", "transformers generate"]
    heads += ["its continuous batching", *(name.removeprefix("server ") for name in several)]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for batch in sorted({*theirs, *through}):
        step_s = steps.get((prompt, batch), 0.0)
        row = theirs.get(batch, {})
        cells = [
            batch / step_s if step_s else 0.0,
            through.get(batch, 0.0),
            row.get("generate_tokens_s", 0.0),
            row.get("continuous_tokens_s", 0.0),
            *(rates.get(batch, 0.0) for rates in several.values()),
        ]
        yield f"| {batch} | {' | '.join(f'{cell:.0f}' if cell else '-' for cell in cells)} |"
