"""Chooses what reads the arguments of a call, by the form that it is written in.

Called by the parser.
"""

from collections.abc import Mapping
from typing import Any

from gateway.notations.arguments import ArgumentReader, JsonReader
from gateway.notations.elements import ElementsReader
from gateway.notations.forms import CompiledForm
from gateway.notations.keywords import KeywordReader
from gateway.notations.marked_json import MarkedJsonReader
from gateway.notations.parameters import ParametersReader
from gateway.notations.schema_parts import SchemaPart
from gateway.notations.schema_types import ParameterTypes


def reader_of(form: CompiledForm, schema: Mapping[str, Any] | None) -> ArgumentReader:
    """Return a reader of one call's arguments. schema: of them; None for a tool nobody knows."""
    if form.content == "parameters":
        if form.parameter is not None and form.parameter.after_key is not None:
            return ElementsReader(form, SchemaPart([schema or {}], schema or {}))
        return ParametersReader(form, ParameterTypes(schema))
    if form.content == "keywords":
        return KeywordReader()
    if form.form.string_mark:
        return MarkedJsonReader(form.form.string_mark)
    return JsonReader()
