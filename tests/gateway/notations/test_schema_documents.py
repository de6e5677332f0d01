"""A part of a schema says the same by itself."""

from typing import Any

from jsonschema import Draft202012Validator

from gateway.notations.schema_documents import document

ROOT: dict[str, Any] = {
    "properties": {
        "a": {"$ref": "#/$defs/A"},
        "b": {"type": "array", "items": {"$ref": "#/properties/a"}},
        "c": {"enum": [{"$ref": "x"}]},
        "$ref": {"properties": {"$ref": {"$ref": "#/$defs/A"}}},
    },
    "$defs": {"A": {"anyOf": [{"const": 1}, {"$ref": "#/$defs/B"}]}, "B": {"const": 2}, "C": {}},
    "x-guidance": {"whitespace_flexible": False},
}


def test_part_takes_the_definitions_that_it_needs() -> None:
    found = document(ROOT["properties"]["a"], ROOT)
    assert set(found["$defs"]) == {"A", "B"}
    assert Draft202012Validator(found).is_valid(2) and not Draft202012Validator(found).is_valid(3)


def test_references_to_anywhere_in_the_whole_are_followed() -> None:
    validator = Draft202012Validator(document(ROOT["properties"]["b"], ROOT))
    assert validator.is_valid([1, 2]) and not validator.is_valid([3])


def test_values_and_names_that_look_like_references_are_none() -> None:
    assert document(ROOT["properties"]["c"], ROOT) == ROOT["properties"]["c"]
    validator = Draft202012Validator(document(ROOT["properties"]["$ref"], ROOT))
    assert validator.is_valid({"$ref": 1}) and not validator.is_valid({"$ref": 3})


def test_part_without_references_is_itself() -> None:
    assert document({"type": "string"}, ROOT) == {"type": "string"}
    assert document(True, ROOT) == {} and not Draft202012Validator(document(False, ROOT)).is_valid(
        1
    )
