"""`/docs`: the API on one page, drawn from its OpenAPI description without a script or anything from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; text-transform: capitalize; }
details { border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .5rem; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; } details > div { padding: 0 .75rem .75rem; }
.method { font: 600 .8rem ui-monospace, monospace; display: inline-block; min-width: 4.5em; }
code, pre { font-family: ui-monospace, monospace; font-size: .85rem; } pre { overflow-x: auto; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top; }
"""


def page(schema: dict[str, Any]) -> str:
    """The whole page."""
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            groups.setdefault((operation.get("tags") or ["other"])[0], []).append(
                _operation(path, method, operation, schema)
            )
    body = "".join(f"<h2>{html.escape(name)}</h2>{''.join(parts)}" for name, parts in groups.items())
    info = schema["info"]
    title = f"{html.escape(info['title'])} {html.escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs.css"></head><body>'
        f"<h1>{title}</h1><p>{html.escape(info.get('description', ''))}</p>"
        f'<p>The same for machines: <a href="/openapi.json">openapi.json</a></p>{body}</body></html>'
    )


def _operation(path: str, method: str, operation: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = [
        (p["name"], p["in"], _kind(p.get("schema", {}), schema), p.get("description", ""))
        for p in operation.get("parameters", [])
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        found = _resolved(content.get("schema", {}), schema)
        properties = found.get("properties") or {"body": found}
        rows += [(n, kind, _kind(p, schema), p.get("description", "")) for n, p in properties.items()]
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(str(c))}</td>' for c in row)}</tr>" for row in rows)
    table = f"<table><tr><th>name</th><th>in</th><th>kind</th><th></th></tr>{cells}</table>" if rows else ""
    text = html.escape(operation.get("description") or operation.get("summary", ""))
    answers = ", ".join(operation.get("responses", {}))
    return (
        f'<details><summary><span class="method">{method.upper()}</span> <code>{html.escape(path)}</code></summary>'
        f"<div><p>{text}</p>{table}<p>answers: {html.escape(answers)}</p></div></details>"
    )


def _resolved(found: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = found.get("$ref", "").rpartition("/")[2]
    return schema["components"]["schemas"][name] if name else found


def _kind(found: dict[str, Any], schema: dict[str, Any]) -> str:
    if "anyOf" in found:
        return " or ".join(k for o in found["anyOf"] if (k := _kind(o, schema)) != "null")
    if "enum" in found:
        return " | ".join(json.dumps(v) for v in found["enum"])
    if "const" in found:
        return json.dumps(found["const"])
    return str(found.get("format") or found.get("type") or found.get("$ref", "").rpartition("/")[2])
