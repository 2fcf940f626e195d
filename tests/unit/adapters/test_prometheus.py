"""What comes back from a Prometheus server, whatever it answers, and what is sent to it."""

from __future__ import annotations

import gzip
import json
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.adapters import prometheus, prometheus_http
from ops_commander.adapters.prometheus import Access, Prometheus, QueryError
from ops_commander.adapters.prometheus_answers import KEPT_FOR, KnownSeries, instant, matrix, read, size
from ops_commander.adapters.prometheus_http import Basic, BearerToken
from ops_commander.core.counters import ArmCounters
from ops_commander.core.promql import PodLabels
from ops_commander.core.samples import Reading, Sample

AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
STEP = timedelta(seconds=15)
OWNER = ("shop", "ranker-abc")
POD = {"namespace": "shop", "pod": "ranker-abc-x"}
NAMES = PodLabels()


def row(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [AT.timestamp(), value]}


class TestInstant:
    def test_rows_are_kept_by_replicaset_and_pod(self) -> None:
        rows = [
            row("3", __name__="a", code="200", **POD),
            row("4", __name__="a", code="500", **POD),
            row("5", namespace="mall", pod="ranker-abc-x"),
            row("6", namespace="shop", pod="ranker-abc-y"),
        ]
        assert instant(rows, AT, NAMES) == Reading(
            AT,
            {
                OWNER: {
                    "ranker-abc-x": (Sample("__name__=a,code=200", 3.0), Sample("__name__=a,code=500", 4.0)),
                    "ranker-abc-y": (Sample("", 6.0),),
                },
                ("mall", "ranker-abc"): {"ranker-abc-x": (Sample("", 5.0),)},
            },
        )

    def test_the_order_of_labels_and_rows_does_not_matter(self) -> None:
        one = [row("1", b="1", a="2", **POD), row("2", b="2", a="2", **POD)]
        other = [row("2", pod="ranker-abc-x", namespace="shop", a="2", b="2"), row("1", a="2", b="1", **POD)]
        assert instant(one, AT, NAMES) == instant(other, AT, NAMES)

    @pytest.mark.parametrize(("le", "edge"), [("0.5", 0.5), ("+Inf", float("inf")), ("1e-3", 0.001), ("-1", -1.0)])
    def test_a_bucket_has_its_edge(self, le: str, edge: float) -> None:
        ((sample,),) = instant([row("3", le=le, **POD)], AT, NAMES).of(OWNER).values()
        assert sample == Sample("", 3.0, edge)

    def test_buckets_of_a_pod_are_told_apart_by_their_edges(self) -> None:
        """Whatever they are written like: Prometheus 3 has `1.0` where Prometheus 2 had `1`."""
        rows = [row("7", le="1", path="/", **POD), row("3", le="0.5", path="/", **POD)]
        (samples,) = instant(rows, AT, NAMES).of(OWNER).values()
        assert samples == (Sample("path=/", 3.0, 0.5), Sample("path=/", 7.0, 1.0))
        assert samples[0].series is samples[1].series

        arm = ArmCounters()
        arm.start(AT, [instant(rows, AT, NAMES).of(OWNER)])
        newer = [row("9", le="1.0", path="/", **POD), row("4", le="0.5", path="/", **POD)]
        (gained,) = arm.advance(AT, [instant(newer, AT, NAMES).of(OWNER)])
        assert dict(gained.buckets) == {0.5: 1.0, 1.0: 2.0}

    @pytest.mark.parametrize(("moment", "powers"), [("2_1", (2, 1)), ("0_0", (0, 0)), ("2", None), ("a_b", None)])
    def test_a_moment_has_its_powers(self, moment: str, powers: tuple[int, int] | None) -> None:
        ((sample,),) = instant([row("3", moment=moment, **POD)], AT, NAMES).of(OWNER).values()
        assert (sample.moment, sample.series) == (powers, f"moment={moment}")

    def test_a_native_histogram_has_its_buckets(self) -> None:
        said = {"count": "10", "sum": "4.5", "buckets": [[1, "-0.5", "-0.25", "1"], [3, "-0.1", "0.1", "4"]]}
        histogram = {"metric": dict(POD), "histogram": [AT.timestamp(), said]}
        empty = {"metric": {"a": "b", **POD}, "histogram": [AT.timestamp(), {"count": "0", "sum": "0"}]}
        assert instant([histogram, empty], AT, NAMES).of(OWNER)["ranker-abc-x"] == (
            Sample("", 10.0, None, ((-0.5, -0.25, 1.0), (-0.1, 0.1, 4.0))),
            Sample("a=b", 0.0, None, ()),
        )

    @pytest.mark.parametrize(
        "silent",
        [
            *(row(value, **POD) for value in ("NaN", "+Inf", "-Inf")),
            *(
                row("3", **labels)
                for labels in ({"namespace": "shop"}, {"pod": "a-b-c"}, {"namespace": "", "pod": "a"})
            ),
            {"metric": POD, "histogram": [0, {"count": "NaN", "sum": "NaN"}]},
        ],
    )
    def test_rows_without_pod_or_without_a_finite_value_say_nothing(self, silent: dict[str, Any]) -> None:
        assert instant([silent], AT, NAMES).rows == {}

    def test_labels_of_pods_may_have_other_names(self) -> None:
        rows = [row("3", exported_namespace="shop", exported_pod="ranker-abc-x", pod="exporter")]
        reading = instant(rows, AT, PodLabels("exported_namespace", "exported_pod"))
        assert reading.of(OWNER) == {"ranker-abc-x": (Sample("pod=exporter", 3.0),)}

    def test_fifty_thousand_rows_are_parsed_in_well_under_a_second(self) -> None:
        labels = {"__name__": "request_duration_seconds_bucket", "job": "models", "instance": "10.0.0.1:80"}
        rows = [
            row("12.5", namespace=f"n{i % 50}", pod=f"r{i % 500}-abc-{i % 5000}", le="0.5", path=str(i), **labels)
            for i in range(50_000)
        ]
        begin = time.perf_counter()
        assert len(instant(rows, AT, NAMES).rows) == 500
        assert time.perf_counter() - begin < 3  # 0.3 s on a machine that does nothing else


PARTS = st.sampled_from(['"', "\\", '},"value":[1,"5"]}', ',{"metric":{', "{id}", "ä", "☃", "\n", "le", " ", "0.5"])
NAMES_OF_LABELS = st.sampled_from(["namespace", "pod", "le", "moment", "value", "metric", "__name__"]) | st.text(
    max_size=5
)
LABELS = st.dictionaries(NAMES_OF_LABELS, st.lists(PARTS, max_size=3).map("".join) | st.text(max_size=8), max_size=4)
NUMBERS = (
    st.floats().map(str) | st.integers(0, 10**9).map(str) | st.sampled_from(["NaN", "+Inf", "1e3", "1_0", "x", ""])
)
TIMES = st.sampled_from([1767603600, 1767603600.5, 1.5e9, 0, -1, "1", None])


@st.composite
def any_row(draw: st.DrawFn) -> dict[str, Any]:
    """Most of them have a pod."""
    labels = {**draw(LABELS), **(POD if draw(st.integers(0, 4)) else {})}
    labels.update({"le": "0.5"} if "le" in labels else {})
    values = draw(st.lists(NUMBERS, min_size=0 if draw(st.integers(0, 9)) == 9 else 1, max_size=2))
    value = {"value": [draw(TIMES), *values]}
    histogram = {"histogram": [draw(TIMES), {"count": "7", "sum": "1", "buckets": [[0, "0", "0.5", "7"]]}]}
    kind = draw(st.integers(0, 9))
    row: dict[str, Any] = {"metric": labels, **(histogram if kind == 9 else value)}
    return {**row, "more": [0, row]} if kind == 8 else dict(reversed(row.items())) if kind == 7 else row


def outcome(read: Callable[[], Reading]) -> object:
    try:
        return read()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return type(error)


class TestReadInPieces:
    @settings(deadline=None, max_examples=300)
    @given(
        rows=st.lists(any_row(), max_size=8),
        before=st.sampled_from([{}, {"status": "success"}, {"status": "success", "isPartial": False}, {"x": [1, {}]}]),
        after=st.sampled_from([{}, {"warnings": ['no "metric":'], "infos": []}, {"stats": [0, {"metric": {}}]}]),
        kind=st.sampled_from([{}, {"resultType": "vector"}]),
        style=st.sampled_from([(",", ":"), (", ", ": ")]),
        ascii_only=st.booleans(),
        size=st.integers(1, 700),
        cut=st.integers(0, 40),
    )
    def test_it_is_the_same_as_parsed_at_once(
        self,
        rows: list[dict[str, Any]],
        before: dict[str, Any],
        after: dict[str, Any],
        kind: dict[str, Any],
        style: tuple[str, str],
        ascii_only: bool,
        size: int,
        cut: int,
    ) -> None:
        rows = [row("1", long="x" * 600, **POD), *rows]
        answer = {**before, "data": {**kind, "result": rows}, **after}
        text = json.dumps(answer, separators=style, ensure_ascii=ascii_only).encode()
        text = text[: len(text) - cut] if cut > 30 else text
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        known = KnownSeries(NAMES)
        expected = outcome(lambda: instant(json.loads(text)["data"]["result"], AT, NAMES))
        for _ in range(2):  # the second time all labels are known
            found = outcome(lambda: read(iter(pieces), known, 100).reading(AT))
            if isinstance(expected, Reading):
                assert found == expected
            else:
                assert isinstance(found, type)

    def test_a_text_that_ends_anywhere_is_no_answer(self) -> None:
        text = json.dumps(
            {"status": "success", "data": {"result": [row(str(n), a=str(n) * 300, **POD) for n in range(5)]}},
            separators=(",", ":"),
        ).encode()
        for end in range(len(text) - 1):
            with pytest.raises(ValueError, match="line 1 column"):
                read(iter([text[:end]]), KnownSeries(NAMES), 100)

    def test_series_that_vanish_are_forgotten(self) -> None:
        def text(first: int) -> bytes:
            rows = [row("1", a=str(number), x="x" * 600, **POD) for number in range(first, first + 10)]
            return json.dumps({"data": {"result": rows}}, separators=(",", ":")).encode()

        known = KnownSeries(NAMES)
        for number in range(100):
            known.age(AT + number * KEPT_FOR / 2)
            assert read(iter([text(number)]), known, 100).rows == 10
            assert len(known) <= 14

    def test_no_more_of_a_large_answer_is_kept_than_its_samples(self) -> None:
        labels = {"__name__": "request_duration_seconds_bucket", "job": "models", "instance": "10.0.0.1:80"}
        rows = (
            json.dumps(row("12", le="0.5", path=str(n), **labels, **POD), separators=(",", ":")) for n in range(20_000)
        )
        text = ('{"status":"success","data":{"resultType":"vector","result":[' + ",".join(rows) + "]}}").encode()
        known = KnownSeries(NAMES)
        for _ in range(2):
            tracemalloc.start()
            vector = read((text[start : start + 65536] for start in range(0, len(text), 65536)), known, 30_000)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert vector.rows == 20_000
        assert peak < 200 * 20_000 < len(text) * 1.2


class TestMatrix:
    def test_each_tick_has_a_reading(self) -> None:
        start = AT.timestamp()
        rows: list[dict[str, Any]] = [
            {"metric": {"a": "1", **POD}, "values": [[start, "1"], [start + 15, "1"], [start + 45, "0.5"]]},
            {"metric": {"a": "2", **POD}, "values": [[start + 15, "NaN"], [start + 45, "7"]]},
            {"metric": POD, "histograms": [[start + 45, {"count": "2", "sum": "1"}]]},
            {"metric": {}, "values": [[start, "9"]]},
        ]
        readings = matrix(rows, AT, STEP, 5, NAMES)
        assert [reading.at for reading in readings] == [AT + number * STEP for number in range(5)]
        assert [reading.of(OWNER).get("ranker-abc-x", ()) for reading in readings] == [
            (Sample("a=1", 1.0),),
            (Sample("a=1", 1.0),),
            (),
            (Sample("", 2.0, None, ()), Sample("a=1", 0.5), Sample("a=2", 7.0)),
            (),
        ]
        assert size(rows) == 26

    def test_parts_of_a_second_are_no_trouble(self) -> None:
        start, step = AT + timedelta(seconds=0.3), timedelta(seconds=0.1)
        values = [[round(start.timestamp() + number * 0.1, 3), str(number)] for number in range(50)]
        readings = matrix([{"metric": POD, "values": values}], start, step, 50, NAMES)
        told = [sample.value for reading in readings for of in reading.of(OWNER).values() for sample in of]
        assert told == [float(number) for number in range(50)]


Asked = tuple[str, dict[str, str], dict[str, str], dict[str, str]]
"""Path, parameters of the URL, form, headers."""


class Fake:
    """An HTTP server on loopback; `answer` writes whatever a test wants."""

    def __init__(self, answer: Callable[[Any], None], tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                url, headers = urlsplit(self.path), {name.lower(): value for name, value in self.headers.items()}
                fake.asked.append((url.path, dict(parse_qsl(url.query)), dict(parse_qsl(body)), headers))
                answer(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Clients that go away, and handshakes that fail, are wanted here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def fake(answer: Callable[[Any], None], tls: ssl.SSLContext | None = None) -> Iterator[Fake]:
    server = Fake(answer, tls)
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def asking(url: str, timeout: float = 4, **access: Any) -> AsyncIterator[Prometheus]:
    server = Prometheus(Access(url, timeout=timedelta(seconds=timeout), **access))
    try:
        yield server
    finally:
        server.close()


def send(handler: Any, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def success(result: object, **more: object) -> bytes:
    return json.dumps({"status": "success", "data": {"result": result, **more}}).encode()


def one_row(handler: Any) -> None:
    send(handler, success([row("3", **POD)]))


async def refusal(answer: Callable[[Any], None], **access: Any) -> str:
    with fake(answer) as server:
        async with asking(server.url, **access) as asked:
            with pytest.raises(QueryError) as error:
                await asked.query("a", AT)
    return str(error.value)


class TestQuery:
    async def test_it_is_a_form_with_time_lookback_and_limits(self) -> None:
        with fake(one_row) as server:
            async with asking(server.url + "/base/", lookback=timedelta(seconds=31)) as asked:
                reading = await asked.query("a" * 3000, AT)
        assert reading == Reading(AT, {OWNER: {"ranker-abc-x": (Sample("", 3.0),)}})
        ((path, parameters, form, _),) = server.asked
        assert (path, parameters) == ("/base/api/v1/query", {})
        assert form == {
            "query": "a" * 3000,
            "time": f"{AT.timestamp():.3f}",
            "timeout": "4000ms",
            "limit": "250001",
            "lookback_delta": "31.000",
        }

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (
                400,
                b'{"status":"error","error":"1:3: parse error: \\"x\\""}',
                'refused the query: 1:3: parse error: "x"',
            ),
            (422, b'{"status":"error","error":"many-to-many"}', "Prometheus refused the query: many-to-many"),
            (503, b'{"status":"error","error":"query timed out"}', "Prometheus refused the query: query timed out"),
            (503, b"<html>Service Unavailable</html>", "Prometheus answered 503 Service Unavailable"),
            (502, b"", "Prometheus answered 502 Bad Gateway"),
            (500, b"[" * 100_000, "Prometheus answered 500 Internal Server Error"),
            (429, b"[]", "Prometheus answered 429 Too Many Requests"),
            (401, b'{"error":"token abc is wrong"}', "Prometheus refused the credentials (401 Unauthorized)"),
            (403, b"", "Prometheus refused the credentials (403 Forbidden)"),
            (400, b'{"error":"' + b"x" * 5000 + b'"}', "refused the query: xxx"),
            (200, b"<html>log in</html>", "the answer is not one of Prometheus: JSONDecodeError"),
            (200, b'{"status":"success","data":{"result":[{"met', "the answer is not one of Prometheus"),
            (200, b"", "the answer is not one of Prometheus"),
            (200, b"\xff\xfe\x00", "the answer is not one of Prometheus"),
            (200, b"[" * 100_000, "the answer is not one of Prometheus: RecursionError"),
            (200, b"[]", "the answer is not one of Prometheus: TypeError"),
            (200, b'{"status":"success"}', "the answer is not one of Prometheus: KeyError"),
            (200, success([0, "1"]), "the answer is not one of Prometheus"),
            (200, success([{"metric": POD, "values": []}]), "the answer is not one of Prometheus: KeyError"),
            (200, success([{"metric": POD, "value": [0]}]), "the answer is not one of Prometheus: IndexError"),
            (200, success([{"metric": POD, "value": [0, "x"]}]), "the answer is not one of Prometheus: ValueError"),
            (200, success(None), "the answer is not one of Prometheus: TypeError"),
        ],
    )
    async def test_what_is_no_answer_is_told(self, status: int, body: bytes, said: str) -> None:
        told = await refusal(lambda handler: send(handler, body, status))
        assert said in told and len(told) < 400 and "abc" not in told

    async def test_a_body_that_ends_early_is_told(self) -> None:
        def early(handler: Any) -> None:
            send(handler, b'{"status":"suc', Content_Length="1000")
            handler.close_connection = True

        assert "cannot be reached" in await refusal(early)

    async def test_a_server_that_is_not_there_is_told(self) -> None:
        with fake(one_row) as server:
            pass
        async with asking(server.url) as asked:
            with pytest.raises(QueryError, match="cannot be reached: ConnectionError, NewConnectionError"):
                await asked.query("a", AT)

    @pytest.mark.parametrize("kind", ["silent", "slow"])
    async def test_a_slow_answer_has_a_deadline(self, kind: str) -> None:
        ended = threading.Event()

        def slowly(handler: Any) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
            while kind == "slow" and not ended.wait(0.05):
                handler.wfile.write(b" ")
            ended.wait(10)

        begin = time.perf_counter()
        try:
            told = await refusal(slowly, timeout=0.4)
        finally:
            ended.set()
        assert time.perf_counter() - begin < 3
        assert any(words in told for words in ("no answer", "cannot be reached"))

    async def test_threads_are_free_again_after_slow_answers(self) -> None:
        slow = True

        def answer(handler: Any) -> None:
            if slow:
                handler.send_response(200)
                handler.send_header("Content-Length", "100000")
                handler.end_headers()
                for _ in range(40):
                    handler.wfile.write(b" ")
                    time.sleep(0.05)
            else:
                one_row(handler)

        with fake(answer) as server:
            async with asking(server.url, timeout=0.2) as asked:
                for _ in range(prometheus.PARALLEL_QUERIES + 2):
                    with pytest.raises(QueryError):
                        await asked.query("a", AT)
                slow = False
                assert (await asked.query("a", AT)).rows

    async def test_a_huge_answer_is_not_taken_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prometheus_http, "MOST_BYTES", 2 * 2**20)
        plain, packed = b" " * 2**24, gzip.compress(b" " * 2**24)
        assert "more than 2 MiB" in await refusal(lambda handler: send(handler, plain))
        assert "more than 2 MiB" in await refusal(lambda handler: send(handler, packed, Content_Encoding="gzip"))

    async def test_too_many_rows_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prometheus, "MOST_ROWS", 2)
        rows = success([row("1", a=str(number), **POD) for number in range(3)])
        told = await refusal(lambda handler: send(handler, rows))
        assert told == "the query gives more than 2 rows: aggregate by namespace and pod"

    async def test_a_packed_answer_in_chunks_is_read(self) -> None:
        def answer(handler: Any) -> None:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.send_header("Content-Encoding", "gzip")
            handler.end_headers()
            body = gzip.compress(success([row(str(number), a=str(number), **POD) for number in range(5000)]))
            for start in range(0, len(body), 999):
                part = body[start : start + 999]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.write(b"0\r\n\r\n")

        with fake(answer) as server:
            async with asking(server.url) as asked:
                assert len((await asked.query("a", AT)).of(OWNER)["ranker-abc-x"]) == 5000
                assert len((await asked.query("a", AT)).of(OWNER)["ranker-abc-x"]) == 5000

    async def test_a_redirect_is_not_followed_and_credentials_stay(self, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text("secret-token")
        with fake(one_row) as other:
            for status in (301, 302, 307, 308):
                told = await refusal(
                    lambda handler, status=status: send(  # type: ignore[misc]
                        handler, b"", status, Location=f"{other.url}/api/v1/query?token=abc"
                    ),
                    auth=BearerToken(token),
                )
                assert told.startswith("Prometheus redirects to 127.0.0.1") and "which is not followed" in told
        assert other.asked == []


class TestRange:
    """A server that counts: series give 1, 2, 3 … at the ticks of a query."""

    SERIES = 2

    def _answer(self, handler: Any) -> None:
        form = handler.server_form()
        start, end, step = float(form["start"]), float(form["end"]), float(form["step"])
        ticks = [round(start + number * step, 3) for number in range(round((end - start) / step) + 1)]
        values = [[tick, str(round(tick - AT.timestamp(), 3))] for tick in ticks]
        rows: list[dict[str, Any]] = [
            {"metric": {"s": str(number), **POD}, "values": values} for number in range(self.SERIES)
        ]
        send(handler, success(rows[: int(form["limit"])], resultType="matrix"))

    @contextmanager
    def _server(self) -> Iterator[Fake]:
        def answer(handler: Any) -> None:
            handler.server_form = lambda: server.asked[-1][2]
            self._answer(handler)

        with fake(answer) as server:
            yield server

    async def test_every_tick_comes_once_and_in_order(self) -> None:
        with self._server() as server:
            async with asking(server.url) as asked:
                readings = await asked.query_range("a", AT, AT + 3000 * STEP + STEP / 2, STEP)
        assert [reading.at for reading in readings] == [AT + number * STEP for number in range(3001)]
        assert [reading.of(OWNER)["ranker-abc-x"][1].value for reading in readings] == [15.0 * n for n in range(3001)]
        forms = [form for _, _, form, _ in server.asked]
        assert [path for path, _, _, _ in server.asked] == ["/api/v1/query_range"] * len(forms)
        assert forms[0]["start"] == f"{AT.timestamp():.3f}" and forms[0]["step"] == "15.000"
        assert len(forms) == 2 and all(form["lookback_delta"] == "31.000" for form in forms)

    async def test_one_answer_holds_at_most_11000_points(self) -> None:
        with self._server() as server:
            async with asking(server.url) as asked:
                assert (
                    len(await asked.query_range("a", AT, AT + timedelta(seconds=29_999), timedelta(seconds=1)))
                    == 30_000
                )
        lengths = [float(form["end"]) - float(form["start"]) + 1 for _, _, form, _ in server.asked]
        assert max(lengths) == 11_000 and sum(lengths) == 30_000

    async def test_many_series_come_in_smaller_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prometheus, "MOST_SAMPLES", 1000)
        monkeypatch.setattr(self, "SERIES", 30)
        with self._server() as server:
            async with asking(server.url) as asked:
                readings = await asked.query_range("a", AT, AT + 199 * STEP, STEP)
        assert [len(reading.of(OWNER)["ranker-abc-x"]) for reading in readings] == [30] * 200
        assert all(int(form["limit"]) <= 1001 for _, _, form, _ in server.asked)

    async def test_more_than_a_process_can_hold_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prometheus, "MOST_SAMPLES_OF_A_RANGE", 500)
        with self._server() as server:
            async with asking(server.url) as asked:
                with pytest.raises(QueryError, match="more than 500 samples: ask for a shorter one"):
                    await asked.query_range("a", AT, AT + 300 * STEP, STEP)

    async def test_more_rows_than_fit_at_any_length_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prometheus, "MOST_SERIES", 1)
        with self._server() as server:
            async with asking(server.url) as asked:
                with pytest.raises(QueryError, match="more than 1 rows: aggregate by namespace and pod"):
                    await asked.query_range("a", AT, AT + 300 * STEP, STEP)
        assert len(server.asked) < 6

    async def test_one_tick_and_none(self) -> None:
        with self._server() as server:
            async with asking(server.url) as asked:
                assert [reading.at for reading in await asked.query_range("a", AT, AT, STEP)] == [AT]
                assert await asked.query_range("a", AT, AT - STEP, STEP) == []


class TestAccess:
    async def test_a_token_is_read_again_when_it_was_rotated(self, tmp_path: Path) -> None:
        token = tmp_path / "token"
        with fake(one_row) as server:
            async with asking(server.url, auth=BearerToken(token), headers={"X-Scope-OrgID": "ml"}) as asked:
                with pytest.raises(QueryError, match=f"credentials in {token} cannot be read: No such file"):
                    await asked.query("a", AT)
                for text in ("first", "second\n"):
                    token.write_text(text)
                    await asked.query("a", AT)
                for text in ("", "two\nlines"):
                    token.write_text(text)
                    with pytest.raises(QueryError, match="expected one line of text"):
                        await asked.query("a", AT)
        sent = [(headers["authorization"], headers["x-scope-orgid"]) for _, _, _, headers in server.asked]
        assert sent == [("Bearer first", "ml"), ("Bearer second", "ml")]

    async def test_basic_credentials_and_parameters(self, tmp_path: Path) -> None:
        password = tmp_path / "password"
        password.write_text("pässword\n")
        with fake(one_row) as server:
            async with asking(server.url, auth=Basic("me", password), parameters={"dedup": "true"}) as asked:
                await asked.query("a", AT)
        ((_, parameters, form, headers),) = server.asked
        assert headers["authorization"] == "Basic bWU6cMOkc3N3b3Jk"
        assert parameters == {"dedup": "true"} and "dedup" not in form

    async def test_a_netrc_is_not_looked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with fake(one_row) as server:
            async with asking(server.url) as asked:
                await asked.query("a", AT)
        assert "authorization" not in server.asked[0][3]

    def test_secrets_are_not_shown(self) -> None:
        access = Access("http://x", headers={"X-Key": "secret"}, parameters={"key": "secret"})
        assert "secret" not in repr(access)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that is its own authority."""
    folder = tmp_path_factory.mktemp("keys")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder


class TestTls:
    def _context(self, keys: Path, *, mutual: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / "crt", keys / "key")
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(keys / "crt")
        return context

    async def test_a_certificate_must_be_of_a_trusted_authority(self, keys: Path) -> None:
        with fake(one_row, self._context(keys)) as server:
            async with asking(server.url) as asked:
                with pytest.raises(QueryError, match="cannot be reached: SSLError"):
                    await asked.query("a", AT)
            async with asking(server.url, verify=str(keys / "crt")) as asked:
                assert (await asked.query("a", AT)).rows
        assert len(server.asked) == 1

    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    async def test_verification_may_be_skipped(self, keys: Path) -> None:
        with fake(one_row, self._context(keys)) as server:
            async with asking(server.url, verify=False) as asked:
                assert (await asked.query("a", AT)).rows

    async def test_a_client_certificate_is_shown(self, keys: Path) -> None:
        certificate = str(keys / "crt"), str(keys / "key")
        with fake(one_row, self._context(keys, mutual=True)) as server:
            async with asking(server.url, verify=str(keys / "crt")) as asked:
                with pytest.raises(QueryError, match="cannot be reached"):
                    await asked.query("a", AT)
            async with asking(server.url, verify=str(keys / "crt"), certificate=certificate) as asked:
                assert (await asked.query("a", AT)).rows

    async def test_a_missing_file_is_told(self, tmp_path: Path) -> None:
        async with asking("https://127.0.0.1:1", verify=str(tmp_path / "absent")) as asked:
            with pytest.raises(QueryError, match="cannot be reached: OSError"):
                await asked.query("a", AT)
