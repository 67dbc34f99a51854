"""`/docs`: every operation on one page, made from the OpenAPI document. It loads nothing from elsewhere."""

from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
code {{ font-size: 13px }} pre {{ white-space: pre-wrap }} summary {{ cursor: pointer; padding: .2rem 0 }}
.method {{ display: inline-block; width: 4rem; font-weight: 600 }} .role {{ float: right; opacity: .7 }}
dl {{ margin: .3rem 0 1rem 4rem }} dd {{ margin-left: 1rem }} @media (prefers-color-scheme: dark) {{
body {{ background: #111; color: #ddd }} a {{ color: #8bf }} }}
</style></head><body>
<h1>{title} <small>{version}</small></h1>
<pre>{description}</pre>
<p>The whole of it, for machines: <a href="/openapi.json">/openapi.json</a> (OpenAPI {openapi}).</p>
{sections}
</body></html>
"""


def page(document: dict[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    tags: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            tags.setdefault(operation["tags"][0], []).append(_operation(path, method, operation, document))
    return _PAGE.format(
        title=escape(document["info"]["title"]),
        version=escape(document["info"]["version"]),
        description=escape(document["info"]["description"].strip()),
        openapi=escape(document["openapi"]),
        sections="\n".join(f"<h2>{escape(tag)}</h2>\n" + "\n".join(found) for tag, found in tags.items()),
    )


def _operation(path: str, method: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    roles = [role for scheme in operation.get("security", []) for roles in scheme.values() for role in roles]
    told = [
        f"<dt><code>{escape(name)}</code></dt><dd>{escape(text)}</dd>"
        for name, text in (*_parameters(operation, document), *_members(operation, document))
    ]
    return (
        f'<details><summary><span class="role">{escape(" ".join(roles))}</span>'
        f'<span class="method">{method.upper()}</span><code>{escape(path)}</code> {escape(operation["description"])}'
        f"</summary><dl>{''.join(told)}</dl></details>"
    )


def _parameters(operation: dict[str, Any], document: dict[str, Any]) -> list[tuple[str, str]]:
    found = [_resolved(parameter, document) for parameter in operation.get("parameters", [])]
    return [(f"{item['in']} {item['name']}", item.get("description", "")) for item in found]


def _members(operation: dict[str, Any], document: dict[str, Any]) -> list[tuple[str, str]]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = _resolved(content.get("schema", {}), document)
    needed = schema.get("required", [])
    return [
        (f"body {name}", ("required. " if name in needed else "") + str(member.get("description", "")))
        for name, member in schema.get("properties", {}).items()
    ]


def _resolved(item: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return what a `$ref` names, or the item itself."""
    found: Any = document
    if "$ref" not in item:
        return item
    for step in str(item["$ref"]).removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)
