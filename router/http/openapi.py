"""The OpenAPI 3.1 document of an HTTP service, made of its operations' descriptions.

Source: the OpenAPI Specification 3.1.1. Schemas are JSON Schema 2020-12, as msgspec writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from router.api_keys.scopes import SCOPES
from router.http.operations import Answer, AnyOf, Body, Operation, Parameter, Type
from router.http.problems import MEDIA_TYPE, ProblemDocument

OPENAPI_VERSION: Final = "3.1.1"
KEY_SCHEME: Final = "api_key"

_SCHEME: Final = "An API key: the setting `api_key`, which has all scopes, or one of `api_keys_file`. Scopes: " + "; ".join(
    f"`{scope}`: {means}" for scope, means in SCOPES.items()
)

_REF: Final = "#/components/schemas/{name}"

_ANY_REQUEST: Final = {
    HTTPStatus.BAD_REQUEST: "The address cannot be read, or has a query parameter that does not exist or breaks its rule.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The address is too long.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong in the service; its log tells.",
}
_NO_KEY: Final = "The API key is missing, unknown or expired."
_WITH_BODY: Final = {
    HTTPStatus.BAD_REQUEST: "The body, or the address, breaks a rule: `field` and `detail` say which.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long.",
}

Json = dict[str, Any]


Limits = Mapping[str, Mapping[str, Json]]
"""Struct → field → keywords of JSON Schema, for limits that are settings: `{"TokenRequest": {"ttl_s": {"maximum": 60}}}`."""


def make_document(
    title: str, version: str, description: str, operations: Iterable[Operation], limits: Limits | None = None
) -> Json:
    """Return the document of some operations.

    Raises:
        KeyError: when a limit is one of a Struct or field that there is not.
    """
    described = tuple(operations)
    schemas = _Schemas(described)
    for struct, fields in (limits or {}).items():
        for field, keywords in fields.items():
            schemas.components[struct]["properties"][field].update(keywords)
    paths: dict[str, Json] = {}
    for operation in described:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {KEY_SCHEME: {"type": "http", "scheme": "bearer", "description": _SCHEME}},
        },
    }


class _Schemas:
    """The schemas of all types that the operations name; Structs are components."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        types = [ProblemDocument, *(one for type_ in _types(operations) for one in _parts(type_))]
        made, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        # Types need not be hashable: Annotated with a list in its Meta is not.
        self._made = list(zip(types, made, strict=True))

    def of(self, type_: Type) -> Json:
        """Return the schema of a type."""
        if isinstance(type_, AnyOf):
            return {"anyOf": [self.of(part) for part in type_.types]}
        return next(schema for known, schema in self._made if known is type_)


def _parts(type_: Type) -> tuple[Type, ...]:
    return type_.types if isinstance(type_, AnyOf) else (type_,)


def _types(operations: Iterable[Operation]) -> Iterator[Type]:
    for operation in operations:
        yield from (parameter.type for parameter in operation.parameters)
        yield from (answer.type for answer in operation.answers if answer.type is not None)
        if operation.body is not None:
            yield operation.body.type


def _operation(operation: Operation, schemas: _Schemas) -> Json:
    described: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "responses": _responses(operation, schemas),
        # OpenAPI 3.1, Security Requirement Object: for schemes but OAuth's these are names of roles.
        "security": [{KEY_SCHEME: [operation.scope]}] if operation.scope else [],
    }
    if operation.parameters:
        described["parameters"] = [_parameter(parameter, schemas) for parameter in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = _body(operation.body, schemas)
    return described


def _parameter(parameter: Parameter, schemas: _Schemas) -> Json:
    described: Json = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required or parameter.where == "path",
        "description": parameter.description,
        "schema": schemas.of(parameter.type),
    }
    return described | _example(parameter.example)


def _body(body: Body, schemas: _Schemas) -> Json:
    content = {"schema": schemas.of(body.type)} | _example(body.example)
    return {"required": True, "description": body.description, "content": dict.fromkeys(body.media_types, content)}


def _responses(operation: Operation, schemas: _Schemas) -> Json:
    answers = {str(answer.status.value): _answer(answer, schemas) for answer in operation.answers}
    problems = {
        str(status.value): _problem(description, schemas)
        for status, description in sorted(_problems(operation).items())
        if str(status.value) not in answers
    }
    return answers | problems


def _answer(answer: Answer, schemas: _Schemas) -> Json:
    described: Json = {"description": answer.description}
    if answer.type is not None:
        described["content"] = {answer.media_type: {"schema": schemas.of(answer.type)} | _example(answer.example)}
    if answer.headers:
        described["headers"] = {
            name: {"description": says, "schema": {"type": "string"}} for name, says in answer.headers.items()
        }
    return described


def _problems(operation: Operation) -> dict[HTTPStatus, str]:
    shared = dict(_ANY_REQUEST)
    if operation.scope is not None:
        shared |= {
            HTTPStatus.UNAUTHORIZED: _NO_KEY,
            HTTPStatus.FORBIDDEN: f"The API key has not the scope `{operation.scope}`.",
        }
    shared |= _WITH_BODY if operation.body else {}
    return {**shared, **operation.problems}


def _problem(description: str, schemas: _Schemas) -> Json:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schemas.of(ProblemDocument)}}}


def _example(example: object) -> Json:
    return {} if example is None else {"example": msgspec.to_builtins(example)}
