"""Checks plain data against a pydantic model; every error becomes a problem at its place in the file."""

from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vault.domain.faults import plain_fault
from vault.policy.problems import Problems, foreign, suggest
from vault.policy.yamlfile import Document, Where

_Model = TypeVar("_Model", bound=BaseModel)


def validate(
    model: type[_Model], document: Document, data: object, problems: Problems, where: Where = ()
) -> _Model | None:
    """`data` (which stands at `where` in the document) as a model, or None after adding every problem."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            _add(model, document, detail, problems, where)
        return None


def _add(
    model: type[BaseModel], document: Document, detail: ErrorDetails, problems: Problems, where: Where
) -> None:
    location = detail["loc"]
    kind = detail["type"]
    where, of_key = _place(document, location, where)
    inner = where[-1] if of_key else document.at(where)
    mark = document.key(*where) if of_key or isinstance(inner, dict | list) else document.value(*where)
    if kind == "policy":
        candidates = detail.get("ctx", {}).get("candidates", ())
        near = suggest(inner, candidates) if isinstance(inner, str) else ""
        problems.add(document.path, mark, detail["msg"], near)
    elif kind == "extra_forbidden":
        key = str(location[-1])
        known = _fields(model, location[:-1])
        mark = document.key(*where)
        problems.add(document.path, mark, f"unknown key {key!r}{foreign(key)}", suggest(key, known))
    elif kind == "missing":
        problems.add(document.path, mark, f"key {location[-1]!r} is missing")
    elif kind == "string_type" and isinstance(inner, int):
        problems.add(document.path, mark, "must be text: put it in quotes")
    else:
        problems.add(document.path, mark, plain_fault(detail))


def _place(document: Document, location: Where, where: Where) -> tuple[Where, bool]:
    """Follow pydantic's location as far as it names things of the file (it also names union members).

    Gives the place, and whether the key there is meant and not its value.
    """
    for step in location:
        if (*where, step) in document.values:
            where = (*where, step)
        elif step == "[key]":
            return where, True
    return where, False


def _fields(model: Any, location: Where) -> set[str]:
    """The keys that the mapping at `location` may have."""
    current: Any = model
    for step in location:
        current = _inner(current, str(step))
    return {field.alias or name for name, field in getattr(current, "model_fields", {}).items()}


def _inner(annotation: Any, step: str) -> Any:
    fields = getattr(annotation, "model_fields", None)
    if fields is not None:
        field = fields.get(step)
        return _bare(field.annotation) if field else None
    arguments = get_args(annotation)
    return _bare(arguments[-1]) if get_origin(annotation) in (dict, list) else annotation


def _bare(annotation: Any) -> Any:
    """Without Optional and Annotated."""
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Annotated or (arguments and get_origin(annotation) not in (dict, list)):
        return _bare(arguments[0])
    return annotation
