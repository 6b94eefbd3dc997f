"""Rules and dashboard with the real promtool, and with a real Prometheus that scrapes a real server."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.client import Client
from serving.releases import publish
from serving.server import ServerConfig, start

DEPLOY = Path(__file__).resolve().parents[2] / "serving" / "deploy"
DOCS = DEPLOY.parents[1] / "docs" / "serving_deployment.md"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
RECORDED = {rule["record"]: rule["expr"] for group in RULES for rule in group["rules"] if "record" in rule}
ALERTS = {rule["alert"]: rule for group in RULES for rule in group["rules"] if "alert" in rule}
DASHBOARD = json.loads((DEPLOY / "grafana" / "serving.json").read_text())
PATIENCE_SECONDS = 25


@pytest.fixture(scope="module")
def tools() -> None:
    """The commands of Prometheus; skips what asks for them where they are missing."""
    if not (shutil.which("promtool") and shutil.which("prometheus")):
        pytest.skip("no prometheus and promtool here: Debian's package `prometheus` has both")


def targets() -> Iterator[tuple[str, str, str]]:
    """(panel, expression, legend) of the dashboard, its variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$model", ".*").replace("$__rate_interval", "30s")
            yield f"{panel['title']} {target['refId']}", expression, target["legendFormat"]


class Prometheus:
    """The API of one that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """`data` of an answer."""
        answer = httpx.get(f"{self._url}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def series(self, expression: str) -> list[dict[str, str]]:
        """The labels of the series that an expression gives with a number."""
        result = self.ask("query", query=expression)["result"]
        return [series["metric"] for series in result if math.isfinite(float(series["value"][1]))]

    def is_ready(self) -> bool:
        """Whether it can be asked."""
        try:
            return httpx.get(f"{self._url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def has_seen(self, scrapes: int) -> bool:
        """Whether requests were counted that often, and the last of the rules that record was applied to them."""
        counts = f"count_over_time(:tensorflow:serving:batching_session:queuing_latency_count[1m]) >= {scrapes}"
        return bool(self.series(counts) and self.series(list(RECORDED)[-1]))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def prometheus(
    tools: None, models: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """The composition's own command and files, but that it scrapes each second; the server is asked meanwhile."""
    folder, base_path = tmp_path_factory.mktemp("prometheus"), tmp_path_factory.mktemp("monitored") / "recommender"
    publish(models(7), base_path, 7)
    server = start(ServerConfig(model_base_path=base_path, port=0, rest_api_port=0, poll_seconds=0.05))
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server.rest_api_port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "prometheus" / "rules.yaml", folder)
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    here = {"/etc/prometheus": str(folder), "=/prometheus": f"={folder}/data"}
    flags = [re.sub("|".join(here), lambda at: here[at[0]], flag) for flag in services["prometheus"]["command"]]
    port = free_port()
    process = subprocess.Popen(
        ["prometheus", *flags, f"--web.listen-address=127.0.0.1:{port}"], stderr=(folder / "log").open("w")
    )
    try:
        server.wait_until_ready(30)
        running = Prometheus(f"http://127.0.0.1:{port}")
        until = time.monotonic() + PATIENCE_SECONDS
        with Client("127.0.0.1", server.port, server.rest_api_port) as client:
            while not (running.is_ready() and running.has_seen(scrapes=4)):
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                assert time.monotonic() < until, (folder / "log").read_text()[-3000:]
                for ask in (client.predict, client.predict_rest):
                    ask("serving_default", {"user_id": ["ann", "bob"]})
                time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(20)
        server.stop()


CHECKS = ["check config prometheus.yml", "check rules rules.yaml", "test rules rules_test.yaml"]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("check", CHECKS)
def test_promtool_finds_nothing_wrong(check: str) -> None:
    command, folder = ["promtool", *check.split()], DEPLOY / "prometheus"
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_its_case() -> None:
    cases = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yaml").read_text())["tests"]
    asked = {case["expr"].partition("{")[0] for group in cases for case in group.get("promql_expr_test", ())}
    alerts = [case for group in cases for case in group.get("alert_rule_test", ())]
    assert asked == set(RECORDED)
    assert {case["alertname"] for case in alerts if case["exp_alerts"]} == set(ALERTS)


def test_every_recording_rule_has_an_answer(prometheus: Prometheus) -> None:
    for name, expression in RECORDED.items():
        assert prometheus.series(name), name
        assert prometheus.series(expression), name
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys((*RECORDED, *ALERTS), "ok")


def test_every_panel_has_something_to_draw(prometheus: Prometheus) -> None:
    for panel, expression, legend in targets():
        found = prometheus.series(expression)
        assert found, f"{panel}: nothing for {expression}"
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert all(label in labels for labels in found), f"{panel}: no label {label}"


def test_no_alert_waits_for_a_metric_that_nobody_has(prometheus: Prometheus) -> None:
    known = set(prometheus.ask("label/__name__/values"))
    for alert, rule in ALERTS.items():
        bare = re.sub(r"\{[^}]*\}|by \([^)]*\)|\b(sum|absent)\b", " ", rule["expr"])
        used = set(re.findall(r"(?<![\w.])[a-z][\w:]*", bare))
        assert used, alert
        assert used <= known, alert
    for variable in DASHBOARD["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        assert prometheus.ask(f"label/{label}/values", **{"match[]": metric}) == ["recommender"]


def test_nothing_is_wrong_with_a_server_that_is_well(prometheus: Prometheus) -> None:
    assert [alert for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"] == []
    for alert in ("ServerDown", "NoServer", "NoVersionInService", "VersionBroken", "RequestsFail", "RequestsRefused"):
        assert prometheus.series(ALERTS[alert]["expr"]) == [], alert


def test_the_dashboard_is_drawn_on_a_grid() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    asked = [part["datasource"] for part in (*panels, *DASHBOARD["templating"]["list"])]
    assert all(part == {"type": source["type"], "uid": source["uid"]} for part in asked)
    assert all(panel["description"] for panel in panels)


def test_every_alert_is_explained() -> None:
    page = DOCS.read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(ALERTS)


def test_the_operator_takes_the_rules_as_the_page_hands_them_to_it() -> None:
    from cloudcoil.models.prometheus_operator.v1 import PrometheusRule

    block = re.search(r"^    \{ printf .*?(?=\| kubectl)", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert block
    made = subprocess.run(["bash", "-c", block[0]], capture_output=True, text=True, cwd=DOCS.parents[1], timeout=60)
    assert made.returncode == 0, made.stderr
    rule = yaml.safe_load(made.stdout)
    assert rule["spec"]["groups"] == RULES
    known = PrometheusRule.model_validate(rule).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert known == rule  # the model drops what it does not know
