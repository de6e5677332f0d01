"""The page at /docs: the API's description as one HTML file that loads nothing else.

Written from the OpenAPI document alone, so the two cannot differ. Knows no HTTP. Called by the
endpoint that serves it.
"""

import base64
import hashlib
import json
import re
from html import escape
from typing import Any

from gateway.description.openapi import ERRORS
from gateway.description.operations import OPERATIONS, Operation

# Examples show the default address.
ADDRESS = "http://127.0.0.1:8000"
# Beyond it a number tells nobody anything.
MAX_SHOWN = 2**53

STYLE = """
:root{--bg:#fbfbfa;--card:#fff;--ink:#1d1f23;--soft:#646b76;--line:#e4e5e8;--accent:#1f5fbf;
--code:#f3f4f6;--post:#1a7f4b;--get:#1f5fbf}
@media(prefers-color-scheme:dark){:root{--bg:#131519;--card:#1a1d22;--ink:#e6e8ec;--soft:#98a0ac;
--line:#2c3038;--accent:#7fb0ff;--code:#22262d;--post:#5bcb8f;--get:#7fb0ff}}
*{box-sizing:border-box}html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.shell{display:grid;grid-template-columns:15rem minmax(0,1fr);max-width:76rem;margin:0 auto}
nav{position:sticky;top:0;align-self:start;height:100vh;overflow:auto;padding:2rem 1rem 2rem 1.5rem;
font-size:.9rem}nav h2{font-size:.75rem;color:var(--soft);margin:1.4rem 0 .3rem;font-weight:600}
nav a{display:block;padding:.12rem 0;color:inherit;overflow-wrap:anywhere}
main{padding:2rem 1.5rem 5rem}h1{font-size:2rem;margin:0 0 .3rem;letter-spacing:-.02em}
.lead{color:var(--soft);max-width:46rem;margin:0 0 1.2rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:1.2rem 1.4rem;margin:1.2rem 0}
section h2{font-size:1.15rem;margin:0;display:flex;gap:.6rem;align-items:baseline;flex-wrap:wrap}
section h3{font-size:.8rem;color:var(--soft);margin:1.3rem 0 .4rem;font-weight:600}
.method{font:700 .75rem ui-monospace,monospace;color:var(--get)}.POST{color:var(--post)}
.summary{color:var(--soft);font-weight:400;font-size:.95rem}p{margin:.5rem 0}
pre{background:var(--code);border-radius:8px;padding:.8rem 1rem;overflow-x:auto;margin:.4rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th{text-align:left;font-weight:600;color:var(--soft);font-size:.78rem;padding:.3rem .6rem .3rem 0}
td{border-top:1px solid var(--line);padding:.4rem .8rem .4rem 0;vertical-align:top}
td:first-child{white-space:nowrap}.type{color:var(--soft)}.must{color:#c2410c;font-size:.75rem}
@media(prefers-color-scheme:dark){.must{color:#fb923c}}
details>summary{cursor:pointer;color:var(--accent);font-size:.9rem;margin-top:.8rem}
@media(max-width:50rem){.shell{display:block}nav,th{display:none}main{padding:1.2rem 1rem}
tr,td,table,tbody{display:block}tr{border-top:1px solid var(--line);padding:.5rem 0}
td{border:0;padding:.05rem 0}}
"""
# What a content security policy names it by.
STYLE_HASH = f"sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}"


def docs_page(document: dict[str, Any], model: str, limits: dict[str, str]) -> str:
    """Return the page.

    document: from openapi.py. model: the name used in examples. limits: what this server adds to
    the limits of fields, by name.
    """
    schemas = document["components"]["schemas"]
    operations = "".join(_section(operation, schemas, model) for operation in OPERATIONS)
    referred = set(re.findall(r"schemas/(\w+)", json.dumps(schemas))) | {"ErrorBody"}
    types = "".join(
        f'<section id="{name}"><h2><code>{name}</code></h2>{_paragraph(schema)}'
        f"{_fields(schema, schemas)}</section>"
        for name, schema in schemas.items()
        if name in referred
    )
    errors = "".join(f"<tr><td>{code}</td><td>{escape(w)}</td></tr>" for code, w in ERRORS.items())
    bounds = "".join(
        f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in limits.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>Unisono API</title>'
        f"<style>{STYLE}</style></head><body><div class=shell>{_navigation()}<main>"
        f"<h1>Unisono API</h1><p class=lead>{escape(document['info']['description'])} "
        'Machine-readable: <a href="openapi.json">openapi.json</a>.</p>'
        f"{operations}"
        '<section id="errors"><h2>Errors</h2><p>Every error has the body <a href="#ErrorBody">'
        "<code>ErrorBody</code></a>. The header <code>x-should-retry: false</code> says that the "
        "same request will fail again; <code>Retry-After</code> and <code>retry-after-ms</code> "
        f"say when to try again.</p><div class=scroll><table>{errors}</table></div></section>"
        '<section id="limits"><h2>Limits of this server</h2><div class=scroll>'
        f"<table>{bounds}</table></div></section>"
        f'<h2 id="types">Types</h2>{types}</main></div></body></html>'
    )


def _navigation() -> str:
    tags = dict.fromkeys(operation.tag for operation in OPERATIONS)
    groups = "".join(
        f"<h2>{escape(tag)}</h2>"
        + "".join(
            f'<a href="#{o.id}"><code>{escape(o.path)}</code></a>'
            for o in OPERATIONS
            if o.tag == tag
        )
        for tag in tags
    )
    more = '<a href="#errors">Errors</a><a href="#limits">Limits</a><a href="#types">Types</a>'
    head = "<strong>Unisono</strong><a href='.'>Try the model</a>"
    return f"<nav>{head}{groups}<h2>Reference</h2>{more}</nav>"


def _section(operation: Operation, schemas: dict[str, Any], model: str) -> str:
    parts = [
        f'<section id="{operation.id}"><h2><span class="method {operation.method}">'
        f"{operation.method}</span><code>{escape(operation.path)}</code>"
        f"<span class=summary>{escape(operation.summary)}</span></h2>"
        f"<p>{_text(operation.description)}</p>",
        f"<h3>Example</h3><pre>{escape(_curl(operation, model))}</pre>",
    ]
    if operation.request is not None:
        schema = schemas[operation.request.__name__]
        parts.append(f"<h3>Request</h3>{_fields(schema, schemas)}")
    if operation.response is not None:
        schema = schemas[operation.response.__name__]
        parts.append(f"<details><summary>Answer</summary>{_fields(schema, schemas)}</details>")
    for event in operation.events:
        if event is operation.response:
            continue
        schema = schemas[event.__name__]
        kind = f": {event.__name__}" if len(operation.events) > 1 else ""
        parts.append(
            f"<details><summary>Events of a stream{kind}</summary>{_fields(schema, schemas)}"
            "</details>"
        )
    return "".join(parts) + "</section>"


def _curl(operation: Operation, model: str) -> str:
    url = ADDRESS + operation.path.replace("{name}", model)
    if not operation.example:
        return f"curl {url}"
    body = operation.example.replace("MODEL", model)
    return f"curl {url} \\\n  -H 'content-type: application/json' \\\n  -d '{body}'"


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = []
    # What must be given comes first.
    for name, field in sorted(schema["properties"].items(), key=lambda x: x[0] not in required):
        must = " <span class=must>required</span>" if name in required else ""
        words = _text(field.get("description", ""))
        rows.append(
            f"<tr><td><code>{escape(name)}</code>{must}</td>"
            f"<td class=type>{_type(field)}</td><td>{words}</td></tr>"
        )
    head = "<tr><th>Field</th><th>Type and limits</th><th></th></tr>"
    return f"<div class=scroll><table>{head}{''.join(rows)}</table></div>"


def _type(field: dict[str, Any]) -> str:
    """Write a schema in words: `number, 0 to 2`."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"] if one.get("type") != "null")
    if "enum" in field:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in field["enum"])
    kind = field.get("type", "any JSON")
    if kind == "array":
        items = _type(field.get("items", {}))
        return f"array of {items}{_range(field, 'Items', ' elements')}"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        values = _type(field["additionalProperties"])
        return f"object of {values}{_range(field, 'Properties', ' entries')}"
    if kind == "string":
        return f"string{_range(field, 'Length', ' characters')}"
    return f"{kind}{_range(field, 'imum', '')}"


def _range(field: dict[str, Any], what: str, unit: str) -> str:
    """Say what may stand there; bounds that only hold a number in its type are left out."""
    low, high = _bound(field.get(f"min{what}")), _bound(field.get(f"max{what}"))
    above = _bound(field.get("exclusiveMinimum")) if what == "imum" else ""
    if above:
        return f", more than {above}" + (f", up to {high}" if high else "")
    if low and high:
        return f", {low} to {high}{unit}"
    if high:
        return f", up to {high}{unit}"
    return f", {low} or more{unit}" if low else ""


def _bound(value: float | None) -> str:
    if value is None or abs(value) >= MAX_SHOWN:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,f}".rstrip("0").rstrip(".")


def _paragraph(schema: dict[str, Any]) -> str:
    return f"<p>{_text(schema.get('description', ''))}</p>"


def _text(words: str) -> str:
    """Escape; text between backticks becomes code."""
    pieces = escape(words, quote=False).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))
