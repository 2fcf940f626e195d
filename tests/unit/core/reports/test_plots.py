"""Plots: well-formed, within their frame, and true to status."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ops_commander.api.v1alpha1 import Interval
from ops_commander.core.reports import svg
from ops_commander.core.reports.plots import objectives_svg, weight_of, weights, weights_svg
from ops_commander.core.reports.provenance import Provenance
from tests.unit.core.reports.cases import CASES, DEPLOY_RUN, Case, completed, held, rolled_back
from tests.unit.core.reports.test_execution import changed

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode())


def texts(text: str) -> list[str]:
    return [element.text or "" for element in parsed(text).iter(f"{SPACE}text")]


def assert_within(text: str) -> None:
    root = parsed(text)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for element in root.iter():
        for name, limit in (("x", width), ("x1", width), ("x2", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(element.attrib.get(name, 0)) <= limit, (element.tag, element.attrib)
        for pair in element.attrib.get("d", "").replace("M", "").split(" L"):
            for place, limit in zip(pair.split(","), (width, height), strict=False):
                assert not place or 0 <= float(place) <= limit, element.attrib


@pytest.mark.parametrize("name", CASES)
def test_plots_are_well_formed_and_within_their_frame(name: str) -> None:
    subject = CASES[name]().subject

    assert_within(weights_svg(subject))
    assert_within(objectives_svg(subject))


def test_weights_go_up_by_the_steps_and_down_at_once() -> None:
    assert [weight for _, weight in weights(completed().subject)] == [0, 0, 0, 5, 100, 100]
    up = [weight for _, weight in weights(rolled_back().subject)]
    assert max(up) == 5 and up[-2:] == [0, 0]
    assert [weight for _, weight in weights(held().subject)][-2:] == [5, 0]


@pytest.mark.parametrize(
    ("step", "weight"), [("shadow", 0), ("canary 5%", 5), ("canary 50%", 50), ("full", 100), ("launch", 100), ("?", 0)]
)
def test_a_step_has_the_weight_of_its_name(step: str, weight: int) -> None:
    assert weight_of(step) == weight


def test_a_series_is_drawn_over_time_and_a_single_value_as_a_bar() -> None:
    over_time, latest = objectives_svg(rolled_back().subject), objectives_svg(completed().subject)

    assert len(list(parsed(over_time).iter(f"{SPACE}path"))) >= 4
    assert list(parsed(over_time).iter(f"{SPACE}circle")) == []
    assert len(list(parsed(latest).iter(f"{SPACE}circle"))) == 6


def test_objectives_name_their_run_and_without_one_nothing_is_drawn() -> None:
    case = rolled_back()
    assert "947.6ms @ run_87245b5f0c7b" in texts(objectives_svg(case.subject))

    bare = objectives_svg(replace(case, provenance=Provenance(series=case.provenance.series)).subject)
    assert texts(bare).count("not reported: no run") == len(case.rollout.status.objectives)
    assert [element for kind in ("path", "circle") for element in parsed(bare).iter(f"{SPACE}{kind}")] == []


def odd(case: Case, value: float, low: float | None, high: float | None) -> Case:
    rows = [
        row.model_copy(update={"observed": value, "interval": Interval(low=low, high=high)})
        for row in case.rollout.status.objectives
    ]
    return replace(changed(case, objectives=rows), provenance=Provenance(deploy_run_id=DEPLOY_RUN))


@pytest.mark.parametrize("value", [0.0, -1.0, 1e300, -1e300, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("end", [None, 0.0, 1e308, -1e308, math.inf, math.nan])
def test_odd_numbers_break_no_plot(value: float, end: float | None) -> None:
    assert_within(objectives_svg(odd(rolled_back(), value, end, end).subject))


def test_text_is_escaped_and_coordinates_are_finite() -> None:
    assert svg.text(1, 2, "<script>&\"'\x00").count("<") == 2
    assert parsed(svg.document(10, 10, "<&>", [svg.text(1, 2, "]]>")])).tag == f"{SPACE}svg"
    with pytest.raises(ValueError, match="nan is no coordinate"):
        svg.line(0, 0, math.nan, 1)
