"""What is written and printed: the same for the same input, and safe to print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ops_commander import __version__
from ops_commander.integration.schema import ApiSchemaDiff, Failed, compare_files, json_schemas, render
from tests.unit.integration.schema.support import DATA, api, encode, item

ROOT = Path(__file__).parents[4]


def files(*names: str) -> list[tuple[str, bytes]]:
    return [(name, (DATA / name).read_bytes()) for name in names]


def ranker() -> ApiSchemaDiff:
    baseline, candidate = files("ranker_v1.json", "ranker_v2.json")
    return compare_files(baseline, candidate)


def differ(before: Any, after: Any, **options: Any) -> ApiSchemaDiff:
    return compare_files(("old.json", encode(before)), ("new.json", encode(after)), **options)


@pytest.mark.parametrize(
    ("name", "form"),
    [("diff.json", ApiSchemaDiff.to_json), ("diff.txt", render.text), ("diff.md", render.markdown)],
)
def test_output_is_as_it_was(name: str, form: Any) -> None:
    """To accept a change: write what is printed here to the file, with @VERSION@ for the version."""
    assert form(ranker()).replace(__version__, "@VERSION@") == (DATA / name).read_text(encoding="utf-8")


def test_the_documented_example_is_the_output() -> None:
    documented = (ROOT / "docs" / "schema-diff.md").read_text(encoding="utf-8")

    shown = re.sub(r"^schema_diff [\d.]+:", "schema_diff @VERSION@:", documented, flags=re.MULTILINE)
    assert (DATA / "diff.txt").read_text(encoding="utf-8").strip() in shown


@pytest.mark.parametrize("name", ["api_schema_v1.json", "api_schema_diff_v1.json"])
def test_the_json_schemas_are_as_generated(name: str) -> None:
    assert (ROOT / "docs" / "schemas" / name).read_text(encoding="utf-8") == json_schemas()[name]


def test_what_was_written_can_be_read_again() -> None:
    assert ApiSchemaDiff.model_validate_json(ranker().to_json()) == ranker()


def test_the_json_schemas_are_schemas_that_can_be_compared() -> None:
    for text in json_schemas().values():
        assert compare_files(("a", text.encode()), ("b", text.encode())).changes == ()


def test_the_failing_side_is_named() -> None:
    good, bad = ("good", encode(api([item()]))), ("bad", b"{")

    for baseline, candidate, is_baseline in ((bad, good, True), (good, bad, False)):
        with pytest.raises(Failed, match="line 1, column 2") as caught:
            compare_files(baseline, candidate)
        assert caught.value.is_baseline is is_baseline


def test_pickle_is_noted_even_where_it_does_not_change() -> None:
    said = differ(api([item()], serialization="pickle"), api([item()], serialization="pickle"))

    assert said.notes == tuple(
        f"{name}: pickle is unsafe: whoever reads one runs the code in it" for name in ("baseline", "candidate")
    )
    assert said.changes == ()


def test_names_cannot_move_the_cursor_or_break_out_of_a_cell() -> None:
    name = "a\x1b[2J|`x`\n\u202e</td>"
    said = differ(api([], [item(name)]), api([]))

    text, markdown = render.text(said), render.markdown(said)

    assert "\x1b" not in text + markdown and "\u202e" not in text + markdown
    assert "a\\x1b[2J|`x`\\n\\u202e</td>" in text
    row = next(line for line in markdown.splitlines() if line.startswith("| 1 |"))
    assert "`` a\\x1b[2J\\|`x`\\n\\u202e</td> ``" in row
    assert json.loads(said.to_json())["changes"][0]["path"] == name


def test_a_table_stays_aligned_with_wide_letters() -> None:
    said = differ(api([], [item("分数"), item("ab")]), api([]))

    rows = [line for line in render.text(said).splitlines() if "field-removed" in line]

    # Two letters that are two columns wide each.
    assert rows[0].index("FP32") == rows[1].index("FP32") + 2


def test_colour_marks_severities() -> None:
    said = differ(api([], [item("a"), item("b")]), api([], [item("b", nullable=True), item("c")]))

    text = render.text(said, colour=True)

    assert "\x1b[31m    1.00" in text
    assert "\x1b[33m    0.70" in text
    assert render.text(said) == "".join(
        part.partition("m")[2] if n else part for n, part in enumerate(text.split("\x1b["))
    )


def test_long_diffs_are_cut_for_people_only() -> None:
    said = differ(api([], [item(f"x{n}") for n in range(300)]), api([]))

    assert render.text(said).count("field-removed") == render.MOST_ROWS
    assert "100 more are in the JSON file." in render.text(said)
    assert len(json.loads(said.to_json())["changes"]) == 300


def test_no_changes() -> None:
    said = differ(api([item()]), api([item()]))

    assert (said.verdict, said.schema_drift) == ("compatible", 0)
    assert "No changes." in render.text(said)
    assert "| Severity |" not in render.markdown(said)
