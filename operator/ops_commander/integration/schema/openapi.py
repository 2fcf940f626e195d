"""OpenAPI 3.x: the bodies, parameters and answers of every operation, each under the operation's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ops_commander.integration.schema.json_schema import Reader
from ops_commander.integration.schema.model import ApiSchema, Direction, Field, Json, SchemaError, canonical, side, step
from ops_commander.integration.schema.references import References

FORMAT: Final = "openapi"
OPERATION: Final = "OPERATION"
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_VERSION = re.compile(r"3\.\d+(\.\d+)?([-+].*)?")
_PARAMETERS: Final = ("path", "query", "header", "cookie")


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    where: str
    shared: Mapping[str, Json]
    """The item of its path, with what holds for all methods."""
    body: Mapping[str, Json]
    places: tuple[str, ...]
    """Names of the path's parameters, in their order."""


def read(document: Mapping[str, Json]) -> ApiSchema:
    """All operations. Raises SchemaError with the place of the first fault."""
    version = document.get("openapi")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise SchemaError(f"OpenAPI version {str(version)[:40]!r}", "3.0 or later of 3", "/openapi")
    reader = _Reader(document)
    return ApiSchema(FORMAT, side(reader.requests()), side(reader.responses()))


class _Reader:
    def __init__(self, document: Mapping[str, Json]) -> None:
        self._document = document
        self._references = References(dict(document))
        self._schemas = Reader(self._references)
        self._operations = list(self._all())

    def requests(self) -> Iterator[Field]:
        for operation in self._operations:
            yield Field(path=operation.name, types=(OPERATION,))
            yield from self._security(operation)
            yield from self._parameters(operation)
            yield from self._request_body(operation)

    def responses(self) -> Iterator[Field]:
        for operation in self._operations:
            yield Field(path=operation.name, types=(OPERATION,))
            responses = self._mapping(operation.body.get("responses", {}), f"{operation.where}/responses")
            for status in sorted(responses):
                if status.startswith("2") or status == "default":
                    yield from self._response(operation, status, responses[status])

    def _response(self, operation: _Operation, status: str, response: Json) -> Iterator[Field]:
        where = f"{operation.where}/responses/{status}"
        found = self._mapping(response, where)
        path = f"{operation.name} {status}"
        yield Field(path=path, parent=operation.name, types=("RESPONSE",))
        headers = self._mapping(found.get("headers", {}), f"{where}/headers")
        for name in sorted(headers):
            header = self._mapping(headers[name], f"{where}/headers/{step(name)}")
            base = f"{path} header#/{step(name.lower())}"
            yield from self._schemas.fields(
                header.get("schema", True),
                base,
                Direction.RESPONSE,
                required=header.get("required") is True,
                parent=path,
            )
        yield from self._content(found, path, where, Direction.RESPONSE)

    def _all(self) -> Iterator[_Operation]:
        paths = self._mapping(self._document.get("paths", {}), "/paths")
        for path, item in paths.items():
            where = f"/paths/{step(path)}"
            shared = self._mapping(item, where)
            for method in _METHODS:
                if method in shared:
                    # The name of a parameter of the path is nobody's business but the server's.
                    name = f"{method.upper()} {re.sub(r'{[^{}]*}', '{}', path)}"
                    place = f"{where}/{method}"
                    places = tuple(re.findall(r"{([^{}]*)}", path))
                    yield _Operation(name, place, shared, self._mapping(shared[method], place), places)

    def _mapping(self, value: Json, where: str) -> Mapping[str, Json]:
        found = self._references.follow(value, where)
        if not isinstance(found, dict):
            raise SchemaError(f"{canonical(found)[:60]} is no mapping", "a mapping", where)
        return found

    def _content(self, holder: Mapping[str, Json], parent: str, where: str, direction: Direction) -> Iterator[Field]:
        content = self._mapping(holder.get("content", {}), f"{where}/content")
        for media in sorted(content):
            schema = self._mapping(content[media], f"{where}/content/{step(media)}").get("schema", True)
            yield from self._schemas.fields(
                schema,
                f"{parent} {media}",
                direction,
                required=False,
                parent=parent,
                branch=direction is Direction.REQUEST,
            )

    def _request_body(self, operation: _Operation) -> Iterator[Field]:
        if "requestBody" not in operation.body:
            return
        where = f"{operation.where}/requestBody"
        found = self._mapping(operation.body["requestBody"], where)
        path = f"{operation.name} body"
        yield Field(path=path, parent=operation.name, types=("BODY",), required=found.get("required") is True)
        yield from self._content(found, path, where, Direction.REQUEST)

    def _parameters(self, operation: _Operation) -> Iterator[Field]:
        found: dict[tuple[str, str], tuple[Mapping[str, Json], str]] = {}
        for holder, place in (
            (operation.shared, operation.where.rpartition("/")[0]),
            (operation.body, operation.where),
        ):
            items = holder.get("parameters", [])
            if not isinstance(items, list):
                raise SchemaError("parameters is not a list", "a list", f"{place}/parameters")
            for index, item in enumerate(items):
                where = f"{place}/parameters/{index}"
                parameter = self._mapping(item, where)
                kind, name = parameter.get("in"), parameter.get("name")
                if not isinstance(name, str) or kind not in _PARAMETERS:
                    raise SchemaError(
                        "a parameter without name or place", f"name, and in: {', '.join(_PARAMETERS)}", where
                    )
                found[str(kind), name.lower() if kind == "header" else name] = parameter, where
        for (kind, name), (parameter, where) in sorted(found.items()):
            is_place = kind == "path" and name in operation.places
            called = str(operation.places.index(name)) if is_place else name
            yield from self._parameter(operation, kind, called, parameter, where)

    def _parameter(
        self, operation: _Operation, kind: str, name: str, parameter: Mapping[str, Json], where: str
    ) -> Iterator[Field]:
        schema = parameter.get("schema", True)
        content = self._mapping(parameter.get("content", {}), f"{where}/content")
        for media in sorted(content):
            schema = self._mapping(content[media], f"{where}/content/{step(media)}").get("schema", True)
        yield from self._schemas.fields(
            schema,
            f"{operation.name} {kind}#/{step(name)}",
            Direction.REQUEST,
            required=parameter.get("required") is True,
            parent=operation.name,
        )

    def _security(self, operation: _Operation) -> Iterator[Field]:
        """What a caller must prove: one of several ways."""
        ways = operation.body.get("security", self._document.get("security"))
        is_free = not isinstance(ways, list) or not ways or {} in ways
        yield Field(
            path=f"{operation.name} security",
            parent=operation.name,
            types=("SECURITY",),
            enum=None if is_free or not isinstance(ways, list) else frozenset(map(canonical, ways)),
        )
