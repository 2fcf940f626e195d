"""Label selectors: the examples of Kubernetes' documentation, their laws, and what is refused.

tests/integration/test_shards.py asks a real API server the same.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.core import names
from ops_commander.core.selectors import EVERYTHING, parse

A = {"environment": "production", "tier": "frontend", "partition": "customerA"}
B = {"environment": "qa", "tier": "backend"}
C = {"tier": "frontend", "gpu": ""}
BARE: dict[str, str] = {}
ALL = (A, B, C, BARE)

# kubernetes.io/docs/concepts/overview/working-with-objects/labels, "Label selectors"
DOCUMENTED = {
    "environment=production": (A,),
    "environment = production": (A,),
    "environment==production": (A,),
    "tier != frontend": (B, BARE),
    "environment=production,tier!=frontend": (),
    "environment in (production, qa)": (A, B),
    "tier notin (frontend, backend)": (BARE,),
    "partition": (A,),
    "!partition": (B, C, BARE),
    "partition in (customerA, customerB),environment!=qa": (A,),
    "partition,environment notin (qa)": (A,),
    "gpu=": (C,),
    "gpu in (,yes)": (C,),
    "! gpu , tier": (A, B),
    "": ALL,
}


@pytest.mark.parametrize(("text", "matched"), DOCUMENTED.items(), ids=DOCUMENTED.keys())
def test_what_matches(text: str, matched: tuple[dict[str, str], ...]) -> None:
    selector = parse(text)

    assert tuple(labels for labels in ALL if selector.matches(labels)) == matched


def test_an_object_without_labels_is_matched_as_one_with_none() -> None:
    assert parse("!a").matches(None) and not parse("a").matches(None) and EVERYTHING.matches(None)


_labels = st.dictionaries(st.sampled_from(["a", "b", names.SHARD]), st.sampled_from(["", "x", "y", "z"]))
_key = st.sampled_from(["a", "b", names.SHARD])
_values = st.lists(st.sampled_from(["x", "y", "z"]), min_size=1)


@given(_labels, _key, _values)
def test_of_an_operator_and_its_opposite_exactly_one_holds(labels: dict[str, str], key: str, values: list[str]) -> None:
    of_one, of_all = values[0], ",".join(values)
    for this, other in (
        (f"{key}={of_one}", f"{key}!={of_one}"),
        (f"{key} in ({of_all})", f"{key} notin ({of_all})"),
        (key, f"!{key}"),
    ):
        assert parse(this).matches(labels) is not parse(other).matches(labels)


@given(_labels, st.lists(st.sampled_from(["x", "y", "z"]), unique=True, min_size=1))
def test_the_selectors_of_the_chart_divide_all_objects(labels: dict[str, str], shards: list[str]) -> None:
    """Whatever is labelled, and with whatever: one shard serves it."""
    selectors = [f"{names.SHARD}={shard}" for shard in shards] + [f"{names.SHARD} notin ({','.join(shards)})"]

    assert sum(parse(text).matches(labels) for text in selectors) == 1


@given(_labels, _key, _values)
def test_a_comma_means_and(labels: dict[str, str], key: str, values: list[str]) -> None:
    parts = [f"{key} in ({','.join(values)})", "a", "b!=x"]

    assert parse(",".join(parts)).matches(labels) is all(parse(part).matches(labels) for part in parts)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("shard in a", "'shard in a' is no requirement on a label"),
        ("shard in (a", "'shard in (a' is no requirement"),
        ("shard in ()", "'shard in ()' is no requirement"),
        ("a=b=c", "'a=b=c' is no requirement"),
        ("a,", "'' is no requirement"),
        (",a", "'' is no requirement"),
        ("a=b c", "'a=b c' is no requirement"),
        ("a b", "'a b' is no requirement"),
        ("replicas > 1", "'replicas > 1' is no requirement"),
        ("=a", "'=a' is no requirement"),
        ("Example.com/a=b", "'Example.com/a' is no key of a label"),
        ("a/b/c", "'a/b/c' is no key of a label"),
        ("-a", "'-a' is no key of a label"),
        (f"{'a' * 64}", "is no key of a label"),
        ("a=-b", "'-b' is no value of a label"),
        ("a in (b,$c)", "'$c' is no value of a label"),
    ],
)
def test_what_is_no_selector_is_refused_with_the_part_that_is_wrong(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="expected a label selector such as") as refused:
        parse(text)

    assert wrong in str(refused.value)
