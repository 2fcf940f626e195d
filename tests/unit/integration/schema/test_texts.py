"""JSON and YAML: one meaning for every reader, or an error with its place."""

from __future__ import annotations

import pytest

from ops_commander.integration.schema.jsontext import load_json
from ops_commander.integration.schema.model import Json, SchemaError
from ops_commander.integration.schema.yamltext import load_yaml


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ('{"a": 1,\n "a": 2}', "line 2, column 2", "the key 'a' is there twice"),
        ('{"b": {"a": 1}, "c": [{"a": 1, "\\u0061": 2}]}', "line 1, column 32", "the key 'a' is there twice"),
        ('{"a": NaN}', "line 1, column 7", "NaN is not JSON"),
        ('{"NaN": -Infinity}', "line 1, column 9", "-Infinity is not JSON"),
        ('[1e999, "1e999"]', "line 1, column 2", "the number 1e999 is out of range"),
        ("[-1.0E+999]", "line 1, column 2", "the number -1.0E+999 is out of range"),
        ("[" + "1" * 5000 + "]", "line 1, column 2", "a number of 5,000 characters"),
        ('{"a": }', "line 1, column 7", "expecting value"),
        ('{"a": 1', "line 1, column 8", "expecting ',' delimiter"),
        ("{'a': 1}", "line 1, column 2", "expecting property name enclosed in double quotes"),
        ('["\\ud800"]', "", "'\\ud800' is half of a surrogate pair"),
        ("[" * 300 + "]" * 300, "line 1, column 257", "nested more than 256 levels"),
        ('{"[[[": ' * 300, "line 1, column 2049", "nested more than 256 levels"),
    ],
)
def test_json_is_refused_with_its_place(text: str, where: str, problem: str) -> None:
    with pytest.raises(SchemaError) as caught:
        load_json(text)

    assert (caught.value.where, caught.value.problem) == (where, problem)


def test_brackets_and_quotes_in_strings_are_text() -> None:
    text = '{"a\\\\": "' + "[{" * 500 + '\\"", "b": ["\\\\", "]", ",", "\\\\\\""], "\\ud83d\\ude00": 1}'

    assert load_json(text) == {"a\\": "[{" * 500 + '"', "b": ["\\", "]", ",", '\\"'], "😀": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: 1, b: 1.5, c: 1e3, d: true}", {"a": 1, "b": 1.5, "c": 1000.0, "d": True}),
        ("{e: null, f: ~, g: }", {"e": None, "f": None, "g": None}),
        ("no: on\nyes: off", {"no": "on", "yes": "off"}),
        ("d: 2025-01-01\nn: 1_000\no: 0o17\ns: '1'", {"d": "2025-01-01", "n": "1_000", "o": "0o17", "s": "1"}),
        ("200: {}\ntrue: x", {"200": {}, "true": "x"}),
        ("a: &a [1]\nb: *a", {"a": [1], "b": [1]}),
        ("a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}", {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 2}}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("", None),
    ],
)
def test_yaml_is_read_as_json_would_say_it(text: str, value: Json) -> None:
    assert load_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1", "the key 'a' is there twice"),
        ("a: .nan", "line 1, column 4", ".nan is not a finite number"),
        ("a: -.inf", "line 1, column 4", "-.inf is not a finite number"),
        ("a: 1e999", "line 1, column 4", "1e999 is not a finite number"),
        ("a: !!python/object:os.system x", "line 1, column 4", "the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: !x {}", "line 1, column 4", "the tag !x"),
        ("a: 1\n---\nb: 2", "line 2, column 1", "a second document"),
        ("? [a]\n: 1", "line 1, column 3", "a key that is a list or a mapping"),
        ("a: *b", "line 1, column 4", "*b stands for nothing, or for itself"),
        ("a: &a [*a]", "line 1, column 8", "*a stands for nothing, or for itself"),
        ("~: 1", "line 1, column 1", "a key that is not text"),
        ("a: {<<: 3}", "line 1, column 10", "<< merges something that is not a mapping"),
        ("a: [1", "line 2, column 1", "did not find expected ',' or ']'"),
        ("a: " + "[" * 300, "line 1, column 259", "nested more than 256 levels"),
        ("\ta: 1", "line 1, column 1", "found character that cannot start any token"),
    ],
)
def test_yaml_is_refused_with_its_place(text: str, where: str, problem: str) -> None:
    with pytest.raises(SchemaError) as caught:
        load_yaml(text)

    assert (caught.value.where, caught.value.problem) == (where, problem)
