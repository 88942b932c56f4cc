"""`disa vocabulary`: a published vocabulary, or one's own file, as a table or as JSON that can be read back."""

import json
from typing import Any

import typer

from disa.data.vocabulary import Category, Vocabulary, load_vocabulary


def run(name: str, *, synonyms: bool, as_json: bool) -> None:
    """Print the prompts, what each counts as, and which of them a model cannot tell apart. Raises `DisaError`."""
    vocabulary = load_vocabulary(name)
    if as_json:
        typer.echo(json.dumps(_to_json(vocabulary, synonyms), indent=1, ensure_ascii=False))
    else:
        _print_table(vocabulary, synonyms)


def _print_table(vocabulary: Vocabulary, synonyms: bool) -> None:
    prompts = vocabulary.prompts(synonyms)
    width = min(60, max(map(len, prompts)))
    for index, (prompt, category) in enumerate(zip(prompts, vocabulary.prompted, strict=True)):
        counted = vocabulary.categories[vocabulary.scored[index]]
        note = (category.kind or "") if counted == category else f"counts as {counted.name}"
        typer.echo(f"{index:>4}  {prompt:{width}}  {note}".rstrip())
    typer.echo(f"{len(prompts):,} prompts, {len(vocabulary.categories):,} categories scored")
    for group in vocabulary.identical(synonyms):
        typer.echo(f'identical prompts: "{prompts[group[0]]}" at {", ".join(map(str, group))}')


def _to_json(vocabulary: Vocabulary, synonyms: bool) -> dict[str, Any]:
    return {
        "name": vocabulary.name,
        "categories": [_entry(category) for category in vocabulary.categories],
        "prompts": vocabulary.prompts(synonyms),
        "scored": vocabulary.scored,
        "identical": vocabulary.identical(synonyms),
    }


def _entry(category: Category) -> dict[str, Any]:
    known = {"synonyms": list(category.synonyms), "kind": category.kind, "id": category.source_id}
    return {"name": category.name} | {
        key: value for key, value in known.items() if value not in (None, [])
    }
