"""A real Prometheus for tests, and targets for it to scrape: free loopback ports, a temporary folder."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.integration.controlplane import cached, free_ports, process, wait_until


class Target:
    """An exposition server; `text` may be changed at any time, and without text it answers 503."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.content_type = "text/plain; version=0.0.4"
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = target.text.encode()
                self.send_response(200 if body else 503)
                self.send_header("Content-Type", target.content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Scrapes are no news."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def target(text: str = "") -> Iterator[Target]:
    served = Target(text)
    try:
        yield served
    finally:
        served.stop()


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """A running Prometheus."""

    url: str
    folder: Path

    @staticmethod
    @contextmanager
    def start(folder: Path, scrape_configs: list[dict[str, Any]]) -> Iterator[PrometheusServer]:
        """Until the block ends; every second it scrapes what the scrape configs name."""
        binary = cached("bin", "prometheus")
        (port,) = free_ports(1)
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": scrape_configs,
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        command = [
            str(binary),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=native-histograms",
            "--log.level=warn",
        ]
        server = PrometheusServer(f"http://127.0.0.1:{port}", folder)
        with process("prometheus", command, folder):
            wait_until("Prometheus is ready", server._is_ready, folder)
            yield server

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, promql: str) -> list[dict[str, Any]]:
        """Rows as Prometheus itself tells them, now."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return rows

    def wait_for(self, promql: str, seconds: float = 30) -> list[dict[str, Any]]:
        """Until the query has rows."""
        deadline = time.monotonic() + seconds
        while not (rows := self.ask(promql)):
            assert time.monotonic() < deadline, f"{promql} gave no rows in {seconds:.0f} s"
            time.sleep(0.1)
        return rows


def scrape(job: str, targets: Mapping[str, Mapping[str, str]], **options: Any) -> dict[str, Any]:
    """A scrape config: by address, the labels that service discovery would give to the pod behind it."""
    static = [{"targets": [address], "labels": dict(labels)} for address, labels in targets.items()]
    return {"job_name": job, "static_configs": static, **options}
