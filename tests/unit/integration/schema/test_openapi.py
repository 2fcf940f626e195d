"""OpenAPI: each operation's requests and answers."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ops_commander.integration.schema import Direction, read
from tests.unit.integration.schema.support import between, encode, fields, refused, weights

REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE


def document(operation: dict[str, Any] | None = None, path: str = "/predict/{model}", **more: Any) -> dict[str, Any]:
    held: dict[str, Any] = {
        "parameters": [{"in": "path", "name": "model", "required": True, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/In"}}},
        },
        "responses": {
            "200": {
                "description": "",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Out"}}},
            },
            "422": {"description": "", "content": {"application/json": {"schema": {"type": "string"}}}},
        },
        **(operation or {}),
    }
    schemas = {
        "In": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "Out": {"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"]},
    }
    return {"openapi": "3.1.0", "paths": {path: {"post": held}}, "components": {"schemas": schemas}, **more}


def test_fields_are_named_by_their_operation() -> None:
    schema = read(encode(document()))

    assert list(fields(schema, REQUEST)) == [
        "POST /predict/{}",
        "POST /predict/{} security",
        "POST /predict/{} path#/0",
        "POST /predict/{} body",
        "POST /predict/{} body application/json",
        "POST /predict/{} body application/json#/text",
    ]
    assert list(fields(schema, RESPONSE)) == [
        "POST /predict/{}",
        "POST /predict/{} 200",
        "POST /predict/{} 200 application/json",
        "POST /predict/{} 200 application/json#/score",
    ]


def test_yaml_says_the_same() -> None:
    assert between(document(), yaml.safe_dump(document()).encode()) == ()


def test_the_name_of_a_path_parameter_does_not_matter() -> None:
    renamed = document(
        {"parameters": [{"in": "path", "name": "m", "required": True, "schema": {"type": "string"}}]}, "/predict/{m}"
    )

    assert between(document(), renamed) == ()


QUERY = {"in": "query", "name": "k", "schema": {"type": "integer"}}
PATH = {"in": "path", "name": "model", "required": True, "schema": {"type": "string"}}
OP = "POST /predict/{}"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (document(), document(path="/other/{model}"), {
            ("request", OP, "operation-removed", 1), ("request", "POST /other/{}", "operation-added", 0)}),
        (document(), document({"parameters": [PATH, QUERY]}), {("request", f"{OP} query#/k", "field-added", 0)}),
        (document(), document({"parameters": [PATH, {**QUERY, "required": True}]}), {
            ("request", f"{OP} query#/k", "required-field-added", 1)}),
        (document({"parameters": [PATH, QUERY]}), document(), {("request", f"{OP} query#/k", "field-removed", 0.3)}),
        (document(), document({"responses": {"201": {}}}), {
            ("response", f"{OP} 200", "field-removed", 1), ("response", f"{OP} 201", "field-added", 0.05)}),
        (document(), document(security=[{"key": []}]), {("request", f"{OP} security", "enum-introduced", 1)}),
        (document(security=[{"key": []}]), document(security=[{"key": []}, {"oauth": []}]), {
            ("request", f"{OP} security", "enum-value-added", 0)}),
        (document(security=[{"key": []}]), document(security=[{"key": ["admin"]}]), {
            ("request", f"{OP} security", "enum-value-added", 0),
            ("request", f"{OP} security", "enum-value-removed", 1)}),
        (document(), document({"requestBody": {"required": True, "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/In"}}, "text/plain": {}}}}), {
            ("request", f"{OP} body text/plain", "alternative-added", 0)}),
        (document(), document({"requestBody": {"required": True, "content": {"text/plain": {}}}}), {
            ("request", f"{OP} body text/plain", "alternative-added", 0),
            ("request", f"{OP} body application/json", "alternative-removed", 1)}),
        (document(), document({"requestBody": {"content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/In"}}}}}), {
            ("request", f"{OP} body", "became-optional", 0)}),
    ],
)  # fmt: skip
def test_changes(before: Any, after: Any, said: set[Any]) -> None:
    assert weights(between(before, after)) == said


def test_what_is_shared_by_reference_or_by_path_is_found() -> None:
    operation = {"responses": {"200": {"$ref": "#/components/responses/R"}}}
    shared = {
        "openapi": "3.0.3",
        "paths": {"/a": {"parameters": [{"$ref": "#/components/parameters/K"}], "get": operation}},
        "components": {
            "parameters": {"K": QUERY},
            "responses": {"R": {"headers": {"X-Id": {"schema": {"type": "string"}}}, "content": {}}},
        },
    }
    schema = read(encode(shared))

    assert fields(schema, REQUEST)["GET /a query#/k"].types == ("INT64",)
    assert fields(schema, RESPONSE)["GET /a 200 header#/x-id"].types == ("STRING",)


@pytest.mark.parametrize(
    ("more", "where", "problem"),
    [
        ({"paths": []}, "/paths", "[] is no mapping"),
        ({"paths": {"/a": {"get": 3}}}, "/paths/~1a/get", "3 is no mapping"),
        ({"paths": {"/a": {"get": {"parameters": 3}}}}, "/paths/~1a/get/parameters", "parameters is not a list"),
        (
            {"paths": {"/a": {"get": {"parameters": [{"name": "x"}]}}}},
            "/paths/~1a/get/parameters/0",
            "a parameter without name or place",
        ),
        (
            {"paths": {"/a": {"$ref": "x.yaml"}}},
            "/paths/~1a",
            "the reference 'x.yaml' leads out of the document",
        ),
        ({"paths": {"/a": {"$ref": "#/paths/~1a"}}}, "/paths/~1a", "a $ref that leads to itself"),
    ],
)
def test_malformed_documents(more: Any, where: str, problem: str) -> None:
    error = refused(encode({"openapi": "3.1.0", **more}))

    assert (error.where, error.problem) == (where, problem)
