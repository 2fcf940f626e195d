"""The comparer between two real servers."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from ops_commander.api.comparison import Comparison, Payloads
from ops_commander.comparer.metrics import DROP_REASONS
from ops_commander.comparer.mirrored import unwanted
from ops_commander.integration.outputs.findings import SKIP_REASONS, Kind
from tests.unit.comparer.servers import Model, Store, bench

GOOD = {"label": "tabby", "score": 0.9312345678901234}


async def test_a_request_is_answered_at_once_and_asked_of_both_as_it_came() -> None:
    async with bench(GOOD, GOOD) as at:
        response = await at.mirror(
            {"x": 1},
            path="/v2/models/ranker/infer?a=%2Fb&c",
            Host="ranker.example",
            X_Request_Id="one",
            Authorization="Bearer secret",
            Connection="keep-alive, X-Own",
            X_Own="hop",
            Accept_Encoding="gzip",
        )
        await at.settled()

        assert (response.status, response.headers["Content-Length"]) == (202, "0")
        for model, arm in ((at.stable, "stable"), (at.candidate, "candidate")):
            ((method, path, headers, body),) = model.asked
            assert (method, path, body) == ("POST", "/v2/models/ranker/infer?a=%2Fb&c", b'{"x": 1}')
            assert headers["Host"] == "ranker.example"
            assert headers["Authorization"] == "Bearer secret"
            assert headers["x-ops-commander-comparison"] == arm
            assert headers["Accept-Encoding"] == "identity"
            assert headers.getall("X-Request-Id") == ["one"]  # type: ignore[attr-defined]
            assert "X-Own" not in headers
        assert at.value("pairs_total") == 1
        assert at.value("deviation_sum") == 0
        assert at.value("deviation_count") == 1
        assert at.value("answers_total", arm="candidate", code="200") == 1
        assert at.value("seconds_count", arm="stable") == 1


async def test_what_differs_is_counted_by_kind_and_kept() -> None:
    worse = {"label": None, "score": 0.93}
    async with bench(GOOD, worse) as at:
        await at.mirror({"x": "private"}, X_Request_Id="one", path="/predict?user=7")
        await at.settled()

        assert at.value("pairs_with_regressions_total") == 1
        assert at.value("regressions_total", kind="field_drop") == 1
        assert at.value("regressions_total", kind="precision_loss") == 1
        assert at.value("regressions_total", kind="status") == 0
        assert at.value("deviation_sum") == 1
        _, text = await at.page("/report")
        report = json.loads(text)
        assert (report["pairs"], report["deviationMean"]) == (1, 1.0)
        (pair,) = report["worstPairs"]
        assert pair["requestId"] == "one"
        assert pair["kinds"] == ["field_drop", "precision_loss"]
        assert {each["path"] for each in pair["findings"]} == {"/label", "/score"}
        assert not [secret for secret in ("private", "tabby", "0.93", "user") if secret in json.dumps(pair)]


async def test_full_payloads_are_kept_only_where_asked_for() -> None:
    async with bench(GOOD, {"label": "dog"}, Comparison(payloads=Payloads.FULL)) as at:
        await at.mirror({"x": "private"})
        await at.settled()

        assert "private" not in (await at.page("/report"))[1], "the page is redacted whatever evidence is"
        (pair,) = at.comparer.ledger.worst.pairs
        assert pair["request"]["text"] == '{"x": "private"}'
        assert json.loads(pair["candidate"]["text"]) == {"label": "dog"}


async def test_the_same_request_is_asked_once() -> None:
    async with bench(GOOD, GOOD) as at:
        for id_ in ("one", "two", "one", "", ""):
            await at.mirror({}, **({"X_Request_Id": id_} if id_ else {}))
        await at.settled()

        assert at.value("pairs_total") == 4
        assert at.value("dropped_total", reason="duplicate") == 1


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"method": "PUT"}, "method"),
        ({"method": "DELETE"}, "method"),
        ({"Accept": "text/event-stream"}, "streaming"),
        ({"body": {"prompt": "x", "stream": True}}, "streaming"),
        ({"path": "/v2/models/m/generate_stream"}, "streaming"),
        ({"body": b"x" * (1024 * 1024 + 1)}, "too_large"),
        ({"x_ops_commander_comparison": "stable"}, "loop"),
    ],
)
async def test_what_is_not_compared_is_answered_and_counted(asked: dict[str, Any], reason: str) -> None:
    async with bench(GOOD, GOOD) as at:
        response = await at.mirror(**{"body": {}, **asked})

        assert response.status == 202
        assert at.value("dropped_total", reason=reason) == 1
        assert not at.stable.asked


@pytest.mark.parametrize("target", ["@elsewhere.example/", "http://elsewhere.example/", "*", ":80@elsewhere/"])
def test_a_target_that_could_name_another_host_is_not_asked(target: str) -> None:
    assert unwanted("GET", target, {}, ["GET"]) == "broken"


async def test_a_body_that_breaks_off_is_counted() -> None:
    async with bench(GOOD, GOOD) as at:
        _, writer = await asyncio.open_connection("127.0.0.1", at.comparer.port)
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while not at.value("dropped_total", reason="broken"):  # noqa: ASYNC110 the other side's turn
                await asyncio.sleep(0.01)
        assert not at.stable.asked


async def test_a_full_queue_drops_rather_than_delays() -> None:
    gate = asyncio.Event()
    comparison = Comparison(concurrency=2, queue=3)
    async with bench(Model(GOOD, gate=gate), Model(GOOD, gate=gate), comparison) as at:
        for number in range(20):
            assert (await at.mirror({}, X_Request_Id=str(number))).status == 202
        assert at.value("dropped_total", reason="queue_full") == 20 - 2 - 3
        gate.set()
        await at.settled()

        assert at.value("pairs_total") == 5


async def test_a_stable_version_that_fails_counts_for_nothing_and_is_spared() -> None:
    async with bench(Model({"error": "x"}, status=503), GOOD) as at:
        for number in range(4):
            await at.mirror({}, X_Request_Id=str(number))
        await at.settled()

        assert at.value("pairs_total") == 0
        assert at.value("skipped_total", reason="stable_status") == 4 - at.value("dropped_total", reason="back_off")
        assert at.value("share") == 0.5
        assert at.value("dropped_total", reason="back_off") >= 1


async def test_a_candidate_that_does_not_answer_is_a_regression() -> None:
    gate = asyncio.Event()
    async with bench(GOOD, Model(GOOD, gate=gate), Comparison(timeout=timedelta(milliseconds=100))) as at:
        await at.mirror({})
        await at.settled()
        gate.set()

        assert at.value("regressions_total", kind="status") == 1
        assert at.value("answers_total", arm="candidate", code="timeout") == 1
        assert at.value("deviation_sum") == 1


async def test_a_connection_that_was_kept_and_closed_is_no_regression() -> None:
    async def closing(request: web.BaseRequest) -> web.StreamResponse:
        if len(candidate.asked) == 2:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(GOOD)

    candidate = Model(handler=closing)
    async with bench(GOOD, candidate) as at:
        for number in range(2):
            await at.mirror({}, X_Request_Id=str(number))
            await at.settled()

        assert len(candidate.asked) == 3
        assert at.value("pairs_total") == 2
        assert at.value("pairs_with_regressions_total") == 0


async def test_streams_and_huge_answers_are_given_up() -> None:
    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        return response

    async def huge(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response([0.5] * 700_000)

    async with bench(Model(handler=stream), GOOD) as at:
        await at.mirror({})
        await at.settled()
        assert at.value("skipped_total", reason="streaming") == 1
    async with bench(Model(handler=huge), Model(handler=huge)) as at:
        await at.mirror({})
        await at.settled()
        assert at.value("skipped_total", reason="too_large") == 1


async def test_large_answers_are_compared_beside_the_event_loop() -> None:
    values = [index / 7 for index in range(50_000)]
    async with bench(values, [*values[:-1], 5.5]) as at:
        await at.mirror({})
        await at.settled()

        assert at.value("deviation_sum") == 1


async def test_redirects_are_not_followed() -> None:
    async def elsewhere(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/secret"})

    async with bench(GOOD, Model(handler=elsewhere)) as at:
        await at.mirror({})
        await at.settled()

        assert len(at.candidate.asked) == 1
        assert at.value("answers_total", arm="candidate", code="302") == 1
        assert at.value("regressions_total", kind="status") == 1


async def test_everything_is_exposed_from_the_start() -> None:
    async with bench(GOOD, GOOD) as at:
        _, text = await at.page("/metrics")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        prefix = "ops_commander_comparison"
        assert {each.labels["kind"] for each in samples if each.name == f"{prefix}_regressions_total"} == set(Kind)
        assert {each.labels["reason"] for each in samples if each.name == f"{prefix}_dropped_total"} == set(
            DROP_REASONS
        )
        assert {each.labels["reason"] for each in samples if each.name == f"{prefix}_skipped_total"} == set(
            SKIP_REASONS
        )
        for name in ("deviation_sum", "deviation_count", "pairs_total", "pairs_with_regressions_total"):
            assert [each.value for each in samples if each.name == f"{prefix}_{name}"] == [0.0]
        assert await at.page("/healthz") == (200, "ok\n")
        assert await at.page("/readyz") == (200, "ok\n")


async def test_evidence_is_printed_and_uploaded_at_the_end() -> None:
    store = Store()
    async with bench(GOOD, {}, store=store, run_id="r1", evidence_path="deployments/ranker-abc-3") as at:
        await at.mirror({}, X_Request_Id="one")
        await at.settled()
        await at.comparer.evidence.write()
        assert store.uploads == 2
        await at.comparer.evidence.write()
        assert store.uploads == 3, "only the log has changed"

    folder = "r1:deployments/ranker-abc-3/deployment/shadow"
    lines = store.files[f"{folder}/metrics.log"].decode().splitlines()
    assert lines == at.told
    assert len(lines) == 3
    last = json.loads(lines[-1])
    assert last["deploymentId"] == "ranker-abc-3"
    assert (last["pairs"], last["deviationMean"], last["regressions"]) == (1, 1.0, {"field_drop": 1})
    (pair,) = map(json.loads, store.files[f"{folder}/worst_pairs.jsonl"].decode().splitlines())
    assert pair["requestId"] == "one"


async def test_a_store_that_fails_disturbs_nothing() -> None:
    store = Store(fails=ConnectionError("refused"))
    async with bench(GOOD, {}, store=store, run_id="r1") as at:
        await at.comparer.evidence.write()
        assert at.value("evidence_failures_total") == 1
        await at.mirror({})
        await at.settled()
        assert at.value("pairs_total") == 1
        store.fails = None
    assert len(store.files) == 2


async def test_at_the_end_what_is_under_way_is_compared_and_nothing_more_is_taken() -> None:
    gate = asyncio.Event()
    async with bench(Model(GOOD, gate=gate), Model({}, gate=gate)) as at:
        await at.mirror({})
        ledger = at.comparer.ledger
        asyncio.get_running_loop().call_later(0.05, gate.set)
    assert ledger.pairs == 1
    assert json.loads(at.told[-1])["pairs"] == 1
