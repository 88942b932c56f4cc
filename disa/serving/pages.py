"""What a browser shows: the page and the description of the API, nothing from elsewhere (D153)."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib import resources
from typing import Any

REFERENCE_STYLE = """
:root { color-scheme: light dark; font: 16px/1.55 system-ui, sans-serif; }
body { max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem; }
section { margin: 2rem 0; border-top: 1px solid #8884; }
h2 { font: 600 1.05rem ui-monospace, monospace; overflow-wrap: anywhere; }
dt { font-family: ui-monospace, monospace; margin-top: .5rem; }
dd { margin-left: 1.25rem; opacity: .8; }
"""


@cache
def page() -> str:
    """Return the page."""
    return resources.files("disa.serving").joinpath("page.html").read_text(encoding="utf-8")


def policy(html: str) -> str:
    """Return a Content-Security-Policy that lets run what a page holds, and nothing else."""
    rules = [
        "default-src 'none'",
        f"script-src {_hashes(html, 'script')}",
        f"style-src {_hashes(html, 'style')}",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(rules)


def reference(schema: Mapping[str, Any]) -> str:
    """Return an OpenAPI description as a page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>disa: the API</title>",
        '<meta name=viewport content="width=device-width">',
        f"<style>{REFERENCE_STYLE}</style>",
        f"<h1>disa {escape(schema['info']['version'])}: the API</h1>",
        f"<p>{escape(schema['info']['description'])}",
        'The same for programs: <a href="openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in schema["paths"].items():
        for method, facts in methods.items():
            parts += _operation(f"{method.upper()} {path}", facts, schema)
    return "\n".join(parts)


def _operation(title: str, facts: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    parts = [f"<section><h2>{escape(title)}</h2><p>{escape(facts['description'])}</p><dl>"]
    for each in facts.get("parameters", []):
        need = "" if each["required"] else ", optional"
        parts.append(_term(f"{each['name']} (in the {each['in']}{need})", each))
    body = facts.get("requestBody", {})
    for kind, content in body.get("content", {}).items():
        parts.append(_term(f"body, {kind}", body))
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        fields = schema["components"]["schemas"].get(name, {}).get("properties", {})
        parts += [_term(field, described) for field, described in fields.items()]
    return [*parts, "</dl></section>"]


def _term(name: str, facts: Mapping[str, Any]) -> str:
    example = facts.get("examples", [])
    shown = f" For example {json.dumps(example[0])}." if example else ""
    text = facts.get("description", "") + shown
    return f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"


def _hashes(html: str, tag: str) -> str:
    """Return what a policy calls the scripts or styles inside a page."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = [hashlib.sha256(text.encode()).digest() for text in found]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    return " ".join(hashes) or "'none'"
