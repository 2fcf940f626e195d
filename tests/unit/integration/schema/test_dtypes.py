"""Names of types, and what becomes of values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.integration.schema import Direction
from ops_commander.integration.schema.compare import Pair, compare
from ops_commander.integration.schema.dtypes import DTYPES, Relation, canonical_dtype, relate
from ops_commander.integration.schema.model import Field, Typing
from ops_commander.integration.schema.rules import Kind

dtypes = st.sampled_from(DTYPES)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("FP32", "FP32"),
        ("float32", "FP32"),
        ("torch.bfloat16", "BF16"),
        ("np.int64", "INT64"),
        ("TYPE_FP16", "FP16"),
        ("F32", "FP32"),
        ("I64", "INT64"),
        ("U8", "UINT8"),
        ("double", "FP64"),
        ("long", "INT64"),
        ("boolean", "BOOL"),
        ("str", "STRING"),
        ("<U12", "STRING"),
        ("|S8", "BYTES"),
        ("datetime64[ns]", "DATETIME"),
        ("binary", "BYTES"),
        ("FP99", None),
        ("", None),
    ],
)
def test_names_of_other_libraries_are_understood(name: str, dtype: str | None) -> None:
    assert canonical_dtype(name) == dtype


@pytest.mark.parametrize(
    ("before", "after", "relation"),
    [
        ("INT8", "INT16", Relation.WIDER),
        ("UINT8", "INT16", Relation.WIDER),
        ("UINT8", "INT8", Relation.OTHER),
        ("INT8", "UINT16", Relation.OTHER),
        ("INT64", "INT8", Relation.NARROWER),
        ("FP16", "FP32", Relation.WIDER),
        ("BF16", "FP32", Relation.WIDER),
        ("BF16", "FP16", Relation.CROSSED),
        ("FP8_E4M3", "FP16", Relation.WIDER),
        ("FP8_E4M3", "FP8_E5M2", Relation.CROSSED),
        ("COMPLEX64", "COMPLEX128", Relation.WIDER),
        ("FP32", "COMPLEX64", Relation.OTHER),
        ("INT16", "FP32", Relation.TO_FLOAT),
        ("INT32", "FP32", Relation.OTHER),
        ("INT32", "FP64", Relation.TO_FLOAT),
        ("UINT64", "FP64", Relation.TO_FLOAT),
        ("FP32", "INT64", Relation.TO_WHOLE),
        ("BOOL", "INT8", Relation.OTHER),
        ("STRING", "BYTES", Relation.OTHER),
        ("STRING", "STRING", Relation.EQUAL),
    ],
)
def test_relations(before: str, after: str, relation: Relation) -> None:
    assert relate(before, after) is relation


@given(dtypes, dtypes)
def test_what_is_wider_one_way_is_narrower_the_other(before: str, after: str) -> None:
    forth, back = relate(before, after), relate(after, before)

    assert (forth is Relation.WIDER) == (back is Relation.NARROWER)
    assert (forth is Relation.EQUAL) == (before == after)
    for symmetric in (Relation.EQUAL, Relation.CROSSED):
        assert (forth is symmetric) == (back is symmetric)
    if forth is Relation.TO_FLOAT:
        assert back is Relation.TO_WHOLE


@given(dtypes, dtypes, dtypes)
def test_wider_is_transitive(one: str, two: str, three: str) -> None:
    if relate(one, two) is Relation.WIDER and relate(two, three) is Relation.WIDER:
        assert relate(one, three) is Relation.WIDER


def kinds(before: str, after: str, typing: Typing, direction: Direction) -> list[Kind]:
    old, new = (Field(path="x", types=(name,), typing=typing) for name in (before, after))
    return [each.kind for each in compare(Pair(old, new, direction))]


WIDER, NARROWER, OTHER = Kind.DTYPE_WIDENED, Kind.DTYPE_NARROWED, Kind.DTYPE_INCOMPATIBLE


@pytest.mark.parametrize(
    ("typing", "before", "after", "request_", "response"),
    [
        # The type of a tensor is part of the message: a server of another type refuses it.
        (Typing.EXACT, "FP32", "FP64", OTHER, WIDER),
        (Typing.EXACT, "FP64", "FP32", NARROWER, NARROWER),
        (Typing.EXACT, "INT32", "FP64", OTHER, OTHER),
        # On protobuf's wire whole numbers are varints of any width, and floats have 4 or 8 bytes.
        (Typing.WIRE, "INT32", "INT64", WIDER, WIDER),
        (Typing.WIRE, "INT64", "INT32", NARROWER, NARROWER),
        (Typing.WIRE, "FP32", "FP64", OTHER, OTHER),
        (Typing.WIRE, "FP64", "FP32", OTHER, OTHER),
        (Typing.WIRE, "INT32", "FP64", OTHER, OTHER),
        (Typing.WIRE, "INT32", "UINT32", OTHER, OTHER),
    ],
)
def test_how_types_travel_decides(typing: Typing, before: str, after: str, request_: Kind, response: Kind) -> None:
    assert kinds(before, after, typing, Direction.REQUEST) == [request_]
    assert kinds(before, after, typing, Direction.RESPONSE) == [response]
