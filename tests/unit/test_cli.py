"""The command line: orders to a deployment, and settings with errors that say what was expected."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

import pytest

from ops_commander.cli import main, run
from ops_commander.cli.verbs import order_for
from ops_commander.core.selectors import EVERYTHING
from ops_commander.runtime.settings import Settings


def body(outcome: str | None = None, **status: Any) -> dict[str, Any]:
    deployment = {"id": "ranker-abc-3", **({"outcome": outcome} if outcome else {})}
    return {"metadata": {"name": "ranker"}, "status": {"phase": "Progressing", "deployment": deployment, **status}}


@pytest.mark.parametrize(
    ("verb", "rollout", "value"),
    [
        ("abort", body(step={"index": 1}), "ranker-abc-3"),
        ("promote", body(step={"index": 1}), "ranker-abc-3/1"),
        ("retry", body("RolledBack"), "ranker-abc-3"),
    ],
)
def test_an_order_names_the_deployment_that_it_is_for(verb: str, rollout: dict[str, Any], value: str) -> None:
    assert order_for(verb, rollout) == value


@pytest.mark.parametrize(
    ("verb", "rollout", "said"),
    [
        ("abort", {"metadata": {"name": "ranker"}}, "no deployment under way (phase ?)"),
        ("abort", body("Completed"), "no deployment under way"),
        ("promote", body("RolledBack"), "no deployment under way"),
        ("retry", body("Completed"), "no reverted deployment to retry (phase Progressing)"),
        ("retry", body(), "no reverted deployment to retry"),
        ("retry", {"metadata": {"name": "ranker"}, "status": {}}, "no reverted deployment to retry"),
    ],
)
def test_an_order_without_an_object_is_refused(verb: str, rollout: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"^ranker: ") as error:
        order_for(verb, rollout)

    assert said in str(error.value)


def settings_of(*flags: str, **environment: str) -> Settings:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser, environment)
    return run.settings_from(parser.parse_args(flags))


URL = "--prometheus-url=http://prometheus:9090"


def test_flags_come_before_the_environment_and_that_before_the_defaults() -> None:
    environment = {"OPS_COMMANDER_WORKERS": "4", "OPS_COMMANDER_POLL_INTERVAL": "10s"}

    settings = settings_of(URL, "--workers=8", "--namespaces=shop, bank,", **environment)

    assert (settings.workers, settings.poll_interval) == (8, timedelta(seconds=10))
    assert settings.query_timeout == Settings("").query_timeout
    assert settings.namespaces == ("shop", "bank")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--prometheus-url is not set: expected the URL of a Prometheus server, or --prometheus-config"),
        ((URL, "--prometheus-config=/a"), "--prometheus-config is '/a': expected it or --prometheus-url, not both"),
        ((URL, "--scrape-interval=15"), "--scrape-interval: '15' is not a duration: expected a form such as 30s"),
        ((URL, "--workers=0"), "--workers is '0': expected a number above 0"),
        ((URL, "--workers=many"), "--workers is 'many': expected a number above 0"),
        ((URL, "--http-port=-1"), "--http-port is '-1': expected a number above 0"),
        ((URL, "--poll-interval=5"), "--poll-interval: '5' is not a duration: expected a form such as 30s"),
        ((URL, "--poll-interval=0s"), "--poll-interval is '0s': expected more than 0"),
        ((URL, "--query-timeout=soon"), "--query-timeout: 'soon' is not a duration"),
        (
            (URL, "--selector=shard in blue"),
            "--selector is 'shard in blue': 'shard in blue' is no requirement on a label: expected a label",
        ),
    ],
)
def test_a_wrong_flag_is_named_with_its_value_and_what_was_expected(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=r"^--") as error:
        settings_of(*flags)

    assert str(error.value).startswith(said)


def test_a_selector_says_which_rollouts_are_served() -> None:
    assert settings_of(URL).selector is EVERYTHING
    assert settings_of(URL, OPS_COMMANDER_SELECTOR="").selector is EVERYTHING
    selector = settings_of(URL, OPS_COMMANDER_SELECTOR="ops-commander.dev/shard notin (blue,red)").selector
    assert selector.text == "ops-commander.dev/shard notin (blue,red)"
    assert selector.matches({}) and not selector.matches({"ops-commander.dev/shard": "red"})


def test_servers_come_from_a_file_or_by_one_url() -> None:
    settings = settings_of("--prometheus-config=/etc/prometheus.yaml", OPS_COMMANDER_PROMETHEUS_URL="")
    assert (settings.prometheus_config, settings.prometheus_url) == ("/etc/prometheus.yaml", "")
    settings = settings_of(URL, OPS_COMMANDER_SCRAPE_INTERVAL="30s")
    assert (settings.prometheus_config, settings.scrape_interval) == ("", timedelta(seconds=30))


def test_a_wrong_flag_ends_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["run", URL, "--workers=0"])

    assert ended.value.code == 2
    assert "--workers is '0'" in capsys.readouterr().err


def test_an_answer_is_stale_when_two_polls_have_not_replaced_it() -> None:
    settings = settings_of(URL, "--poll-interval=10s", "--query-timeout=2s")

    assert settings.stale_after == timedelta(seconds=32)
