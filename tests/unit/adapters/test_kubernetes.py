"""The client of the Kubernetes API: names that stay names, answers that are not JSON."""

from __future__ import annotations

import pytest

from ops_commander.adapters.kubernetes import ApiError, Invalid, _content, _path


@pytest.mark.parametrize("name", ["../../victim/httproutes/ranker", "a/b", "..", "", "a%2fb", "UPPER", "a?b"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="not a name of an object"):
        _path("HTTPRoute", "mine", name)
    with pytest.raises(Invalid, match="not a name of an object"):
        _path("HTTPRoute", name, "ranker")


def test_paths_by_kind() -> None:
    assert _path("ReplicaSet", "shop", "ranker-x1") == "apis/apps/v1/namespaces/shop/replicasets/ranker-x1"
    assert _path("Pod", "shop") == "api/v1/namespaces/shop/pods"
    assert _path("ModelRollout", None) == "apis/ops-commander.dev/v1alpha1/modelrollouts"


def test_a_plain_text_refusal_keeps_its_words() -> None:
    assert _content(429, b"Too many requests, please try again later.\n")["message"].startswith("Too many requests")


def test_a_plain_text_success_is_an_error() -> None:
    with pytest.raises(ApiError, match="not JSON"):
        _content(200, b"<html>hello</html>")


def test_no_body_is_an_empty_object() -> None:
    assert _content(200, b"") == {}
