"""Ten JSON schemas of the kinds that people send, and what each is there to exercise.

Used wherever a generated text must validate: masks alone here, whole servers in tests/e2e.
"""

from typing import Any

Schema = dict[str, Any]

SCHEMAS: dict[str, Schema] = {
    # Flat and closed: what function arguments mostly are.
    "person": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "is_member": {"type": "boolean"},
        },
        "required": ["name", "age", "is_member"],
        "additionalProperties": False,
    },
    # Enums, const and null.
    "ticket": {
        "type": "object",
        "properties": {
            "kind": {"const": "ticket"},
            "priority": {"enum": ["low", "medium", "high", "urgent"]},
            "severity": {"enum": [1, 2, 3, None]},
            "assignee": {"type": ["string", "null"], "maxLength": 12},
        },
        "required": ["kind", "priority", "severity", "assignee"],
        "additionalProperties": False,
    },
    # Arrays with bounds, in an object.
    "recipe": {
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 30},
            "steps": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 25},
                "minItems": 2,
                "maxItems": 4,
            },
            "minutes": {"type": "integer", "minimum": 1, "maximum": 600},
        },
        "required": ["title", "steps"],
        "additionalProperties": False,
    },
    # Patterns and formats.
    "booking": {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"},
            "day": {"type": "string", "format": "date"},
            "email": {"type": "string", "pattern": "^[a-z]{1,8}@[a-z]{1,8}\\.(com|org)$"},
            "id": {"type": "string", "format": "uuid"},
        },
        "required": ["code", "day", "email", "id"],
        "additionalProperties": False,
    },
    # $ref into $defs, used twice.
    "order": {
        "type": "object",
        "properties": {
            "billing": {"$ref": "#/$defs/address"},
            "shipping": {"$ref": "#/$defs/address"},
        },
        "required": ["billing", "shipping"],
        "additionalProperties": False,
        "$defs": {
            "address": {
                "type": "object",
                "properties": {
                    "street": {"type": "string", "maxLength": 20},
                    "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                },
                "required": ["street", "zip"],
                "additionalProperties": False,
            }
        },
    },
    # Alternatives told apart by a tag.
    "shape": {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "type": {"const": "circle"},
                    "radius": {"type": "number", "minimum": 0, "maximum": 1000},
                },
                "required": ["type", "radius"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {
                    "type": {"const": "polygon"},
                    "points": {
                        "type": "array",
                        "items": {
                            "type": "array",
                            "items": {"type": "integer", "minimum": -99, "maximum": 99},
                            "minItems": 2,
                            "maxItems": 2,
                        },
                        "minItems": 3,
                        "maxItems": 4,
                    },
                },
                "required": ["type", "points"],
                "additionalProperties": False,
            },
        ]
    },
    # Recursion.
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": 0, "maximum": 9},
                    "children": {
                        "type": "array",
                        "items": {"$ref": "#/$defs/node"},
                        "maxItems": 2,
                    },
                },
                "required": ["value", "children"],
                "additionalProperties": False,
            }
        },
    },
    # A map with values of one kind, and an array at the top.
    "scores": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"team": {"type": "string", "maxLength": 10}},
            "required": ["team"],
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "minItems": 1,
        "maxItems": 3,
    },
    # A fixed row of differing kinds, and exclusive bounds.
    "row": {
        "type": "array",
        "prefixItems": [
            {"type": "string", "maxLength": 8},
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            {"type": "boolean"},
        ],
        "items": False,
        "minItems": 3,
    },
    # Nesting, optional properties and descriptions, as generated from typed code.
    "invoice": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Invoice",
        "description": "An invoice as an accounting program takes it.",
        "type": "object",
        "properties": {
            "number": {"type": "string", "pattern": "^INV-[0-9]{3,6}$", "description": "unique"},
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "item": {"type": "string", "maxLength": 15},
                        "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
                        "discount": {
                            "anyOf": [
                                {"type": "number", "minimum": 0, "maximum": 1},
                                {"type": "null"},
                            ],
                            "default": None,
                        },
                    },
                    "required": ["item", "quantity"],
                    "additionalProperties": False,
                },
                "minItems": 1,
                "maxItems": 3,
            },
            "customer": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 15},
                    "tags": {"type": "array", "items": {"enum": ["new", "vip"]}, "maxItems": 2},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
        },
        "required": ["number", "lines", "customer"],
        "additionalProperties": False,
    },
}
