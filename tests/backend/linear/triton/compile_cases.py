"""What compile_kernels.py compiles of the linears."""

from collections.abc import Iterator
from typing import Any

from backend.linear.triton import columns, dense_groups, few_rows, look_up, many_rows
from backend.linear.triton.decode import constants_of
from backend.quant.planes import PLANES

# A kernel's name, itself, the types of its arguments that are no int32, its constants.
CaseFields = tuple[str, Any, dict[str, str], dict[str, Any]]

BYTES = "*u8"
_SHARED = {"data": BYTES, "table": "*fp32", "x": "*bf16", "bias": "*bf16", "out": "*bf16"}
_OF_GROUPS = {**_SHARED, "weights": "*i64", "biases": "*bf16", "ends": "*i64"}


# Compiled each time; the others where there is time.
_COMMON = ("Q4_K", "MXFP4")


def linear_cases(*, is_whole: bool = True) -> Iterator[CaseFields]:
    """Every format by few and many rows, or those of some."""
    for rows in (many_rows.MIN_ROWS, many_rows.MAX_ROWS)[: 2 if is_whole else 1]:
        dense = {"FEATURES": dense_groups.FEATURES, "STEP": 64, "ROWS": rows, "GROUPS": 128}
        yield (
            f"dense_groups {rows}",
            dense_groups.multiply_dense_groups,
            _OF_GROUPS,
            {"HAS_BIAS": True, "WIDE": False, **dense},
        )
    for weight_format, planes in PLANES.items():
        if not is_whole and weight_format.name not in _COMMON:
            continue
        constants = {**constants_of(planes), "WIDE": False, "HAS_BIAS": True}
        few = {"FEATURES": few_rows.FEATURES, "STEP_WORDS": few_rows.STEP_WORDS}
        for rows in (1, few_rows.MAX_ROWS):
            yield (
                f"few_rows {weight_format} {rows}",
                few_rows.multiply_few_rows,
                _SHARED,
                {**constants, **few, "ROWS": rows},
            )
        for rows in (many_rows.MIN_ROWS, many_rows.MAX_ROWS)[: 2 if is_whole else 1]:
            many = {"FEATURES": many_rows.FEATURES, "STEP_WORDS": many_rows.step_words(rows)}
            yield (
                f"many_rows {weight_format} {rows}",
                many_rows.multiply_many_rows,
                _SHARED,
                {**constants, **many, "ROWS": rows},
            )
        if weight_format.name in _COMMON and is_whole:
            many = {"FEATURES": many_rows.FEATURES, "STEP_WORDS": 32, "GROUPS": 128}
            yield (
                f"groups {weight_format}",
                many_rows.multiply_groups,
                _OF_GROUPS,
                {**constants, **many, "ROWS": many_rows.MIN_ROWS},
            )
        of_rows = {name: value for name, value in constants.items() if name in _OF_LOOK_UP}
        yield (
            f"look_up {weight_format}",
            look_up._look_up,
            {**_SHARED, "ids": "*i64"},
            {**of_rows, "STEP_WORDS": look_up.STEP_WORDS},
        )
    for has_groups in (False, True):
        yield (
            f"take_columns {has_groups}",
            columns._take_columns,
            {**_OF_GROUPS, "order": "*i32"},
            {"HAS_GROUPS": has_groups, "GROUPS": 128, "BLOCK": columns.BLOCK},
        )
    yield (
        "add_pieces",
        few_rows.add_pieces,
        {**_SHARED, "pieces": "*fp32"},
        {"HAS_BIAS": True, "BLOCK": 1024},
    )


_OF_LOOK_UP = ("VALUES", "SCALES", "HAS_MINS", "WORDS", "UNIT", "ZERO")
