"""The images and the composition of the serving side, without an engine to build them.

What the server's image has is laid out as a folder of links: exactly the distributions that its Dockerfile installs,
and the files that it copies. The server runs there as in a container whose file system is read-only.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serving.client import Client
from serving.server import main
from tests.dockerfiles import bases, copied, is_ignored, patterns_of, stages

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "serving" / "deploy"
SERVER, STOCK = DEPLOY / "server.Dockerfile", DEPLOY / "tensorflow-serving.Dockerfile"
DOCKERFILES = [SERVER, STOCK]
UNSEEN = {"httptools"}  # uvicorn's parser, which it takes where it is there
NOT_SERVED = {"client", "lineage"}  # modules that the server does not import
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 120


def named() -> set[str]:
    """The distributions of requirements.in."""
    lines = (DEPLOY / "requirements.in").read_text().splitlines()
    return {name for line in lines if (name := line.partition("#")[0].strip())}


def installed() -> set[str]:
    """What is in the image: the named distributions and all that they need."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in named()]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name not in found:
            found.add(name)
            needs = map(Requirement, metadata.requires(name) or ())
            waiting += [need for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    return found


def imported() -> set[str]:
    """The distributions whose modules the server's own source imports."""
    modules: set[str] = set()
    for path in (ROOT / "serving").glob("*.py"):
        if path.stem not in NOT_SERVED:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    modules.add(node.module or "")
                elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                    modules.add(ast.literal_eval(node.args[0]))
    ours = {module for module in modules if module.partition(".")[0] not in {*sys.stdlib_module_names, "serving"}}
    return {owner(module) for module in ours}


@functools.cache
def owners() -> dict[str, str]:
    """The image's distributions by the folders and files that they bring, two levels deep: `google` is several's."""
    paths = ((name, str(file).split("/")) for name in installed() for file in metadata.files(name) or ())
    return {"/".join(parts[:depth]): name for name, parts in paths for depth in (1, 2) if parts[:depth] != ["google"]}


def owner(module: str) -> str:
    """The distribution that a module is of, or its own name if none of the image's has it."""
    first, _, rest = module.partition(".")
    second = f"{first}/{rest.partition('.')[0]}"
    found = (owners().get(key) for key in (first, f"{first}.py", second, f"{second}.py"))
    return next(filter(None, found), module)


def instruction(path: Path, word: str) -> str:
    """The last one of the image itself."""
    return [i.text for i in stages(path)[""] if i.word == word][-1]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What PYTHONPATH has in the image: links to the files of its distributions, and the files that COPY copies."""
    site = tmp_path_factory.mktemp("image")
    for name in installed():
        for file in metadata.files(name) or ():
            if ".." not in file.parts:  # a command beside the packages
                to = site / file
                to.parent.mkdir(parents=True, exist_ok=True)
                if not to.exists():
                    to.symlink_to(Path(str(file.locate())))
    patterns = patterns_of(DEPLOY / "server.Dockerfile.dockerignore")
    for sources, _ in copied(stages(SERVER)[""]):
        for file in (f for source in sources for f in (ROOT / source).rglob("*") if f.is_file()):
            if not is_ignored(str(file.relative_to(ROOT)), patterns):
                to = site / file.relative_to(ROOT)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, to)
    return site


def in_container(image: Path, command: list[str], tmp: Path) -> subprocess.Popen[str]:
    """Starts a command of the image where no file can be written."""
    assert command[0] == "python"
    environment = {
        "PYTHONPATH": str(image),
        "HOME": "/proc/nowhere",
        "TMPDIR": str(tmp),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def forbid_files() -> None:
        bound = len(b"blat")  # with which Python tries a folder for temporary files; TensorFlow's import asks for one
        resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound))

    return subprocess.Popen(
        [sys.executable, "-S", *command[1:]],  # -S: without the site-packages of the tests
        env=environment,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=forbid_files,
    )


@pytest.fixture(scope="module")
def container(image: Path, models: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The image's own command, on free ports, over one model."""
    base_path = tmp_path_factory.mktemp("models") / "recommender"
    shutil.copytree(models(7), base_path / "7")
    (volume,) = json.loads(instruction(SERVER, "CMD"))
    assert volume == "--model-base-path=/models/recommender"
    arguments = ["--port=0", "--rest-api-port=0", f"--model-base-path={base_path}"]
    tmp = tmp_path_factory.mktemp("tmp")
    server = in_container(image, [*json.loads(instruction(SERVER, "ENTRYPOINT")), *arguments], tmp)
    patience = threading.Timer(PATIENCE_SECONDS, server.kill)
    patience.daemon = True
    patience.start()
    said = []
    for line in server.stdout or ():
        said.append(line)
        if match := re.match(r"serving recommender version 7 · gRPC 0\.0\.0\.0:(\d+) · REST \S+:(\d+)", line):
            break
    else:
        pytest.fail(f"the server ended:\n{''.join(said)[-3000:]}")
    patience.cancel()
    with Client("127.0.0.1", int(match[1]), int(match[2]), deadline_seconds=PATIENCE_SECONDS) as client:
        yield client
    server.terminate()
    assert server.wait(20) == 0, server.stdout.read() if server.stdout else ""


def test_the_image_has_what_the_server_imports_and_no_more() -> None:
    assert named() - UNSEEN == imported()


def test_every_version_is_the_locks() -> None:
    lock = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {name: lock.get(name) for name in installed()} == {name: metadata.version(name) for name in installed()}
    assert not {"tfx", "apache-beam", "tfx-bsl", "tensorflow-transform", "kfp", "psycopg2-binary"} & installed()
    (compiled,) = (i.text for i in stages(SERVER)["lock"] if i.word == "RUN")
    assert "--constraints requirements.lock requirements.in" in compiled


def test_it_serves_both_protocols_where_no_file_can_be_written(container: Client) -> None:
    by_grpc = container.predict("serving_default", {"user_id": ["bob"]})
    by_rest = container.predict_rest("serving_default", {"user_id": ["bob"]})
    assert by_grpc["item_ids"].tolist() == by_rest["item_ids"].tolist() == [[b"7/2", b"7/4"]]


def test_the_health_check_tells_alive_from_dead(image: Path, container: Client, tmp_path: Path) -> None:
    check = instruction(SERVER, "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    rest = re.search(r":(\d+)/", container._rest_url or "")
    assert rest
    for port, expected in ((rest[1], 0), ("1", 1)):  # nobody listens on port 1
        here = [part.replace("8501", port).replace("timeout=4", f"timeout={PATIENCE_SECONDS}") for part in command]
        asked = in_container(image, here, tmp_path)
        said, _ = asked.communicate(timeout=PATIENCE_SECONDS)
        assert asked.returncode == expected, said


def test_the_arguments_are_the_servers() -> None:
    entrypoint, arguments = json.loads(instruction(SERVER, "ENTRYPOINT")), json.loads(instruction(SERVER, "CMD"))
    assert entrypoint[:3] == ["python", "-m", "serving.server"]
    parsed = main.make_context("server", [*entrypoint[3:], *arguments]).params
    assert (parsed["host"], str(parsed["model_base_path"])) == ("0.0.0.0", "/models/recommender")
    assert instruction(SERVER, "EXPOSE").split() == [str(parsed["port"]), str(parsed["rest_api_port"])]
    with pytest.raises(click.NoSuchOption):
        main.make_context("server", ["--made-up"])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_clean_pinned_and_not_roots(path: Path) -> None:
    lint = subprocess.run([BIN / "hadolint", path], capture_output=True, text=True, timeout=60)
    assert lint.returncode == 0, lint.stdout
    assert all(re.fullmatch(r"[^:]+:\d[\w.-]+", base) for base in bases(path)), bases(path)
    user, group = instruction(path, "USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_each_context_has_what_is_copied_and_nothing_more() -> None:
    patterns = patterns_of(DEPLOY / "server.Dockerfile.dockerignore")
    sources = {name for stage in stages(SERVER).values() for names, _ in copied(stage) for name in names}
    assert {entry.name for entry in ROOT.iterdir() if not is_ignored(entry.name, patterns)} == {
        Path(source).parts[0] for source in sources
    }
    assert all((ROOT / source).exists() and not is_ignored(source, patterns) for source in sources)
    assert is_ignored("serving/deploy/compose.yaml", patterns)
    for names, _ in copied(stages(STOCK)[""]):
        assert all((DEPLOY / name).exists() for name in names)


def test_the_stock_server_reads_files_that_are_there() -> None:
    """Field names are those of monitoring_config.proto and session_bundle_config.proto."""
    arguments = [part.removeprefix("--").split("=", 1) for part in json.loads(instruction(STOCK, "CMD"))]
    told = dict(arguments)
    (target,) = (target for _, target in copied(stages(STOCK)[""]))
    monitoring = (DEPLOY / told["monitoring_config_file"].replace(target, "tensorflow-serving/")).read_text()
    expected = 'prometheus_config {\n  enable: true\n  path: "/monitoring/prometheus/metrics"\n}\n'
    assert monitoring.endswith(f"\n{expected}")
    assert told["enable_model_warmup"] == "true"
    assert "enable_batching" not in told  # batches of histories of unequal length fail there
    lines = (DEPLOY / "tensorflow-serving" / "batching.config").read_text().splitlines()
    fields = [re.fullmatch(r"(\w+) \{ value: \d+ \}", line) for line in lines if not line.startswith("#")]
    known = ["max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"]
    assert [field and field[1] for field in fields] == known


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def test_the_composition_is_one_by_composes_schema() -> None:
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        DEPLOY / "compose.yaml",
    ]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_is_locked_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
    assert services["server"]["user"] == instruction(SERVER, "USER")


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["volumes"]
    for name, service in services.items():
        for mount in service["volumes"]:
            if mount["type"] == "volume":
                assert mount["source"] in volumes, name
            else:
                assert mount["read_only"] is True, name
                assert mount["source"].startswith("${EVERGREEN_MODELS:-") or (DEPLOY / mount["source"]).exists(), name
    build = services["server"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == SERVER
    (models,) = services["server"]["volumes"]
    (argument,) = services["server"]["command"]
    assert argument.startswith(f"--model-base-path={models['target']}/")


def test_what_is_scraped_is_the_server(services: dict[str, Any]) -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in services
    assert port == instruction(SERVER, "EXPOSE").split()[1]
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert re.fullmatch(r"http://(\w+):9090", source["url"])[1] in services  # type: ignore[index]
