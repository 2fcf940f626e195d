"""JSON Schema, drafts 4 to 2020-12: one field for each place in a message, with all that holds there."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ops_commander.integration.schema.jsontext import MAX_VALUES
from ops_commander.integration.schema.keywords import Facts, Schema, facts_of
from ops_commander.integration.schema.model import (
    MAX_FIELDS,
    MAX_LEVELS,
    ApiSchema,
    Direction,
    Field,
    Json,
    SchemaError,
    Side,
    Typing,
    canonical,
    plain,
    side,
    step,
)
from ops_commander.integration.schema.references import References, last_step

FORMAT: Final = "json-schema"
NOTHING: Final = "NOTHING"
_NEVER: Final[Schema] = {"not": {}}
_ANYTHING: Final[Schema] = {}
_POINTERS: Final = frozenset(
    [
        "$ref",
        "$dynamicRef",
        "allOf",
        "anyOf",
        "oneOf",
        "title",
        "description",
        "default",
        "examples",
        "nullable",
        "deprecated",
        "$schema",
        "$id",
        "$comment",
        "$anchor",
        "$dynamicAnchor",
        "$defs",
        "definitions",
    ]
)
"""What a schema may hold without saying anything on values itself."""
_DIRECTIONS: Final = (Direction.REQUEST, Direction.RESPONSE)


def read(document: Json, direction: Direction | None = None) -> ApiSchema:
    """A schema whose properties are `request` and `response`, or one for messages of the direction, or of both."""
    reader = Reader(References(document))
    parts = _parts(document)
    if parts is not None:
        sides = {
            each: _side(reader, parts[each], each) if each in parts and direction in (None, each) else Side()
            for each in _DIRECTIONS
        }
        return ApiSchema(FORMAT, sides[Direction.REQUEST], sides[Direction.RESPONSE])
    sides = {each: _side(reader, document, each) if direction in (None, each) else Side() for each in _DIRECTIONS}
    notes = () if direction else ("JSON Schema names no direction: compared both as a request and as a response",)
    return ApiSchema(FORMAT, sides[Direction.REQUEST], sides[Direction.RESPONSE], notes)


def _parts(document: Json) -> Mapping[Direction, Json] | None:
    properties = document.get("properties") if isinstance(document, dict) else None
    if not isinstance(properties, dict) or not properties or not set(properties) <= set(_DIRECTIONS):
        return None
    return {Direction(name): schema for name, schema in properties.items()}


def _side(reader: Reader, schema: Json, direction: Direction) -> Side:
    return side(reader.fields(schema, "", direction, required=True))


@dataclass(slots=True)
class _Place:
    """A place in a message, and the schemas that must hold there."""

    path: str
    parent: str | None
    schemas: Sequence[Json]
    required: bool
    level: int = 0
    branch: bool = False
    ancestors: Mapping[frozenset[int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Inner:
    """A step further down."""

    name: str
    schemas: Sequence[Json]
    required: bool = False
    branch: bool = False


@dataclass(slots=True)
class _Node:
    """The schemas of a place with references resolved, and the forms that its value may have."""

    fragments: list[Schema]
    facts: Facts
    folded: list[Schema] = field(default_factory=list)
    """Of forms for different types of value, which therefore hold side by side."""
    forms: dict[str, list[Schema]] = field(default_factory=dict)
    """By name, where a message has one of several objects."""
    inner: list[_Inner] = field(default_factory=list)
    identity: frozenset[int] = frozenset()
    """What makes it the same node again, however it is referred to."""


class Reader:
    """Reads schemas of one document; counts what it does, so that no document keeps it busy for long."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._work = 0
        self._nodes: dict[frozenset[int], _Node] = {}

    def fields(
        self,
        schema: Json,
        base: str,
        direction: Direction,
        *,
        required: bool,
        parent: str | None = None,
        branch: bool = False,
    ) -> Iterator[Field]:
        """The fields of a message, which is itself the field `base`."""
        todo = [_Place(base, parent, [schema], required, branch=branch)]
        count = 0
        while todo:
            place = todo.pop()
            fragments = self._resolved(place.schemas, place.path)
            if _is_for(direction, fragments):
                count += 1
                if count > MAX_FIELDS:
                    raise _too_many()
                found, inner = self._field(place, fragments)
                yield found
                todo += reversed(inner)

    def _field(self, place: _Place, fragments: list[Schema]) -> tuple[Field, list[_Place]]:
        where = place.path or "/"
        if place.level > MAX_LEVELS:
            raise SchemaError(f"nested more than {MAX_LEVELS} levels", f"at most {MAX_LEVELS}", where[:200])
        key = frozenset(map(id, fragments))
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = self._node(fragments, where)
        facts = node.facts
        again = place.ancestors.get(node.identity)
        if facts.constraints or facts.default:
            texts = (*facts.constraints.values(), facts.default)
            self._spend(sum(len(each) for each in texts if isinstance(each, str)) // 16)
        types = tuple(sorted(facts.dtypes)) if again is None else (f"as {again or '/'}",)
        found = Field(
            path=place.path,
            parent=place.parent,
            types=types,
            required=place.required,
            nullable=facts.nullable,
            encoding=facts.encoding,
            enum=facts.enum,
            constraints=facts.constraints,
            default=facts.default,
            doc=facts.doc,
            typing=Typing.VALUE,
            branch=place.branch,
            closed=facts.closed,
        )
        if again is not None or not node.inner:
            return found, []
        return found, list(_below(node, place, {**place.ancestors, node.identity: place.path}))

    # --- schemas ---------------------------------------------------------------------------------

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_VALUES:
            raise SchemaError(f"more than {MAX_VALUES:,} values, references counted in full", f"at most {MAX_VALUES:,}")

    def _resolved(self, schemas: Sequence[Json], where: str) -> list[Schema]:
        """The schemas with what they refer to and all of `allOf`, each once."""
        todo = list(reversed(schemas))
        seen: set[int] = set()
        found: list[Schema] = []
        while todo:
            schema = todo.pop()
            self._spend(1)
            if isinstance(schema, bool):
                found += [] if schema else [_NEVER]
            elif not isinstance(schema, dict):
                raise SchemaError(f"{canonical(schema)[:60]} is no schema", "a mapping, true or false", where or "/")
            elif id(schema) not in seen:
                seen.add(id(schema))
                found.append(schema)
                self._spend(sum(len(value) for value in schema.values() if isinstance(value, (list, dict))))
                todo += reversed(self._also(schema, where or "/"))
        return found or [_ANYTHING]

    def _also(self, schema: Schema, where: str) -> list[Json]:
        found = [self._references.resolve(schema[key], where) for key in ("$ref", "$dynamicRef") if key in schema]
        every = schema.get("allOf", [])
        if not isinstance(every, list):
            raise SchemaError("allOf is not a list", "a list of schemas", where)
        return [*found, *every]

    def _node(self, fragments: list[Schema], where: str) -> _Node:
        """Forms of which there is one in the end are part of the node; the rest is kept apart or folded in."""
        node = _Node(list(fragments), Facts())
        nullable = False
        unions = deque(_unions(node.fragments, where))
        known = set(map(id, fragments))
        while unions:
            forms = [self._resolved([form], where) for form in unions.popleft()]
            real = [form for form in forms if facts_of(form, where).primitives != set()]
            nullable = nullable or len(real) < len(forms)
            if len(real) == 1:
                fresh = [each for each in real[0] if id(each) not in known]
                known |= set(map(id, fresh))
                node.fragments += fresh
                unions += _unions(fresh, where)
            elif real:
                self._fold(node, real, where)
        _finish(node, where, nullable=nullable)
        node.inner = list(_inner(node, where))
        node.identity = _identity(node)
        return node

    def _fold(self, node: _Node, forms: list[list[Schema]], where: str) -> None:
        said = [facts_of(form, where) for form in forms]
        types = [each.primitives for each in said]
        stated = [each for each in types if each is not None]
        apart = len(stated) == len(types) and sum(map(len, stated)) == len(set().union(*stated))
        simple = all(not any(_unions(form, where)) for form in forms)
        if simple and apart and not any(each.enum for each in said):
            node.folded += [schema for form in forms for schema in form]
        elif simple and all(each.enum is not None for each in said):
            values = sorted(frozenset().union(*(each.enum or () for each in said)))
            node.folded.append(_choice(values))
        else:
            node.forms |= _named(forms, types)


# --- what is inside ------------------------------------------------------------------------------


def _inner(node: _Node, where: str) -> Iterator[_Inner]:
    """Properties, items and forms, in their order."""
    schemas = [*node.fragments, *node.folded]
    required = _required(schemas)
    named = _by_name(schemas, where)
    for name, held in named.items():
        yield _Inner(step(name), held, required=name in required)
    for name in required:
        if name not in named:
            yield _Inner(step(name), [True], required=True)
    for name, held in _others(schemas, where):
        yield _Inner(name, held)
    for name, form in node.forms.items():
        yield _Inner(f"({name})", form, branch=True)


def _below(node: _Node, place: _Place, ancestors: Mapping[frozenset[int], str]) -> Iterator[_Place]:
    path, level = place.path, place.level + 1
    # A pointer from the root, or from what stands before `#`.
    mark = "/" if not path or path[0] in "/(" or "#" in path else "#/"
    for each in node.inner:
        deeper = f"{path}{'' if each.branch else mark}{each.name}"
        yield _Place(deeper, path, each.schemas, each.required, level, each.branch, ancestors)


def _identity(node: _Node) -> frozenset[int]:
    """Of the schemas that say more than where to look and how to call it."""
    telling = [id(each) for each in node.fragments if not _POINTERS.issuperset(each)]
    return frozenset(telling if telling and not node.forms else map(id, node.fragments))


def _too_many() -> SchemaError:
    return SchemaError(f"more than {MAX_FIELDS:,} fields, references counted in full", f"at most {MAX_FIELDS:,}")


def _is_for(direction: Direction, fragments: Sequence[Schema]) -> bool:
    """What is read only is not sent; what is written only is not answered."""
    other = "readOnly" if direction is Direction.REQUEST else "writeOnly"
    return not any(each.get(other) is True for each in fragments)


def _unions(fragments: Sequence[Schema], where: str) -> Iterator[list[Json]]:
    for each in fragments:
        for key in ("anyOf", "oneOf"):
            if key in each:
                forms = each[key]
                if not isinstance(forms, list) or not forms:
                    raise SchemaError(f"{key} is not a list of schemas", "one schema or more", where)
                yield forms


def _choice(values: Sequence[str]) -> Schema:
    return {"enum": [plain(value) for value in values]}


def _finish(node: _Node, where: str, *, nullable: bool) -> None:
    """Facts of what always holds, joined with those of the forms."""
    facts = facts_of(node.fragments, where)
    forms = [*([each] for each in node.folded), *node.forms.values()]
    for form in forms:
        said = facts_of(form, where)
        if facts.primitives is None or not facts.primitives:
            facts.dtypes |= said.dtypes
        facts.nullable = facts.nullable or said.nullable
    for schema in node.folded:
        said = facts_of([schema], where)
        facts.constraints = {**said.constraints, **facts.constraints}
        facts.encoding = facts.encoding or said.encoding
        facts.enum = facts.enum if facts.enum is not None else said.enum
        facts.closed = facts.closed or said.closed
    facts.nullable = facts.nullable or nullable
    if _NEVER in node.fragments:
        facts.dtypes = {NOTHING}
    node.facts = facts


def _named(forms: list[list[Schema]], types: Sequence[set[str] | None]) -> dict[str, list[Schema]]:
    """Forms by what they are called, so that their order does not matter."""
    found: dict[str, list[Schema]] = {}
    counts: Counter[str] = Counter()
    for form, primitives in zip(forms, types, strict=True):
        name = _name(form) or "|".join(sorted(primitives or {"any"}))
        counts[name] += 1
        found[name if counts[name] == 1 else f"{name} {counts[name]}"] = form
    return found


def _name(form: Sequence[Schema]) -> str | None:
    reference = next((last_step(each["$ref"]) for each in form if "$ref" in each), None)
    title = next((each["title"] for each in form if isinstance(each.get("title"), str)), None)
    return reference or (str(title) if title else None)


def _required(schemas: Sequence[Schema]) -> dict[str, None]:
    """Names, in their order. Draft 3's `required: true` is not one."""
    found: dict[str, None] = {}
    for each in schemas:
        names = each.get("required", [])
        if isinstance(names, list):
            found |= {name: None for name in names if isinstance(name, str)}
    return found


def _by_name(schemas: Sequence[Schema], where: str) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for each in schemas:
        properties = each.get("properties", {})
        if not isinstance(properties, dict):
            raise SchemaError("properties is not a mapping", "schemas by name", where)
        for name, schema in properties.items():
            found.setdefault(name, []).append(schema)
    return found


def _others(schemas: Sequence[Schema], where: str) -> Iterator[tuple[str, list[Json]]]:
    """Items, and properties that have no name of their own."""
    found: dict[str, list[Json]] = {}
    for each in schemas:
        for name, schema in _items(each):
            found.setdefault(name, []).append(schema)
        patterns = each.get("patternProperties", {})
        if not isinstance(patterns, dict):
            raise SchemaError("patternProperties is not a mapping", "schemas by pattern", where)
        for pattern, schema in patterns.items():
            found.setdefault("{" + pattern.replace("~", "~0").replace("/", "~1") + "}", []).append(schema)
        if isinstance(each.get("additionalProperties"), dict):
            found.setdefault("{*}", []).append(each["additionalProperties"])
    yield from found.items()


def _items(schema: Schema) -> Iterator[tuple[str, Json]]:
    items = schema.get("items")
    leading = schema.get("prefixItems", items if isinstance(items, list) else [])
    if isinstance(leading, list):
        yield from ((str(index), each) for index, each in enumerate(leading))
    rest = schema.get("additionalItems") if isinstance(items, list) else items
    if rest is not None and not isinstance(rest, list):
        yield "*", rest
