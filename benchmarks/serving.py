"""Requests per second and latency of the model server, from compiled load generators: wrk (REST) and h2load (gRPC).

    python benchmarks/serving.py --pipeline movielens                      the live version
    python benchmarks/serving.py --pipeline movielens --swaps 100          and versions that change under load

Every request asks `recommend` for one user. First the call in process, then the server as `python -m serving.server`
starts it, on the same cores as the load: one caller, saturation, random arrivals at fixed rates, and a few of them
beside somebody who asks for many users at once. Beside it a plain Python gRPC server (a thread per call, no batches)
over the same model. wrk: random users; h2load: one user.
Needs Debian's packages wrk and nghttp2-client. Latencies in milliseconds.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # `serving` is the package, not this
CONNECTIONS = 200  # of random arrivals
CALLERS = {"1 caller": 1, "64 callers": 64}
BULK = 5_000  # users of one request
METHOD = "/tensorflow.serving.PredictionService/Predict"


@dataclass(frozen=True)
class Result:
    """What a load gave: requests per second, milliseconds at the median, 99 and 99.9%, and how many failed."""

    per_second: float
    p50: float
    p99: float
    p999: float
    failed: int

    def __str__(self) -> str:
        return f"{self.per_second:>8,.0f} {self.p50:>8.1f} {self.p99:>8.1f} {self.p999:>8.1f} {self.failed:>7}"


@click.command(help=__doc__)
@click.option("--pipeline", help="Name of the pipeline; not needed when there is only one.")
@click.option("--servable", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Instead: one folder.")
@click.option("--rates", default="500,1000", show_default=True, help="Requests per second.")
@click.option("--seconds", default=10, show_default=True, help="Of each load.")
@click.option("--swaps", default=0, show_default=True, help="Versions to change under load, at the first rate.")
@click.option("--plain/--no-plain", default=True, show_default=True, help="Whether to ask the plain server, too.")
def main(pipeline: str | None, servable: Path | None, rates: str, seconds: int, swaps: int, plain: bool) -> None:
    """Serves, asks, prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)
    if missing := [tool for tool in ("wrk", "h2load") if not shutil.which(tool)]:
        raise click.ClickException(f"{' and '.join(missing)} not found; apt-get install wrk nghttp2-client")
    servable = servable or live(pipeline)
    print(f"in process, one after the other          {in_process(servable):>17.1f}   p50\n")
    print(f"{'':<40}{'q/s':>9}{'p50':>9}{'p99':>9}{'p99.9':>9}{'failed':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        users = folder / "users"
        users.write_text("\n".join(user_ids(servable)) + "\n")
        if plain:
            with served(servable, folder / "plain", "--plain") as (port, _):
                for said, callers in CALLERS.items():
                    result = h2load(port, servable, folder, callers, seconds)
                    print(f"{f'plain server, gRPC, {said}':<40}", result, flush=True)
        with served(servable, folder / "models") as (port, rest_port):
            saturation = {}
            for said, callers in CALLERS.items():
                saturation["REST"] = wrk(rest_port, users, seconds, callers)
                print(f"{f'REST, {said}':<40}", saturation["REST"], flush=True)
                saturation["gRPC"] = h2load(port, servable, folder, callers, seconds)
                print(f"{f'gRPC, {said}':<40}", saturation["gRPC"], flush=True)
            half = round(saturation["REST"].per_second / 2)
            for rate in (*map(int, rates.split(",")), half):
                said = f"REST, {rate:,} a second, at random" + (" (half)" if rate == half else "")
                print(f"{said:<40}", wrk(rest_port, users, seconds, CONNECTIONS, rate), flush=True)
            print(f"{f'REST, 100 a second, beside {BULK:,} users':<40}", beside_bulk(rest_port, users), flush=True)
            if swaps:
                change(folder / "models", servable, swaps, port, rest_port, users, half)


def live(pipeline: str | None) -> Path:
    """The folder of what is in production."""
    from pipeline.commands.options import places_of
    from serving.registry import Registry

    places = places_of(pipeline)
    version = Registry.at(places.registry).live()
    if version is None:
        raise click.ClickException("nothing is in production yet; run the pipeline once")
    return places.serving / str(version.version)


def user_ids(servable: Path) -> list[str]:
    """All that the servable knows, from its table."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(servable / "variables/variables"))
    users = reader.get_variable_to_shape_map()["user_items/.ATTRIBUTES/VARIABLE_VALUE"][0] - 1
    canary = json.loads((servable / "assets.extra/contract.json").read_text())["canary"]["user_ids"]
    numbered = all(re.fullmatch(r"\d+", user) for user in canary)
    return [str(number) for number in range(1, users + 1)] if numbered else canary


def in_process(servable: Path) -> float:
    """Milliseconds of a call, the median, in a process of its own with the server's settings."""
    done = subprocess.run(
        [sys.executable, __file__, "--in-process", str(servable)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def call_in_process(servable: Path) -> None:
    """What `in_process` runs."""
    import tensorflow as tf

    from serving.model import load_model, register_scann_ops

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    register_scann_ops()
    model = load_model(servable, version=1)
    model.warm_up()
    nothing, taken = np.full((1, 1), b"", object), []
    inputs = {"history": nothing, "exclude": nothing, "allow": nothing}
    for user in (user_ids(servable) * 500)[:500]:
        begun = time.perf_counter()
        model.predict("recommend", {"user_id": np.array([user.encode()], object), **inputs})
        taken.append(1000 * (time.perf_counter() - begun))
    print(statistics.median(taken[100:]))


@contextlib.contextmanager
def served(servable: Path, base_path: Path, *flags: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own, its ports; it is ready."""
    base_path.mkdir()
    (base_path / "1").symlink_to(servable.absolute())
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    if "--plain" in flags:
        command = [sys.executable, str(HERE / "load/plain_server.py"), str(servable), str(ports[0])]
    else:
        command = [sys.executable, "-m", "serving.server", "--model-base-path", str(base_path)]
        command += ["--port", str(ports[0]), "--rest-api-port", str(ports[1])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if "serving" not in line:
            raise click.ClickException(f"the server did not start: {line}")
        yield ports
    finally:
        process.terminate()
        process.wait()


def wrk(port: int, users: Path, seconds: int, callers: int, rate: int | None = None) -> Result:
    """REST: as fast as `callers` get answers, or random arrivals at a rate."""
    with wrk_begun(port, users, seconds, callers, rate) as load:
        return wrk_result(load)


def wrk_begun(port: int, users: Path, seconds: int, callers: int, rate: int | None = None) -> subprocess.Popen[str]:
    """The same, under way."""
    pause = [] if rate is None else [str(1000 * callers / rate)]
    url = f"http://127.0.0.1:{port}/v1/models/recommender:predict"
    script = ["-s", str(HERE / "load/recommend.lua"), url, "--", str(users), *pause]
    command = ["wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "--timeout", "30s", *script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wrk_result(load: subprocess.Popen[str]) -> Result:
    """What a load gave; waits for its end."""
    figures = re.search(r"RESULT (.*)", load.communicate()[0])
    per_second, p50, p99, p999, failed = (figures[1] if figures else "").split()
    return Result(float(per_second), float(p50), float(p99), float(p999), int(failed))


def beside_bulk(port: int, users: Path) -> Result:
    """REST, while another caller asks for many users at once, one such request after the other."""
    ids, nothing = users.read_text().split(), [[""]] * BULK
    body = {"user_id": (ids * BULK)[:BULK], "history": nothing, "exclude": nothing, "allow": nothing}
    with wrk_begun(port, users, 10, CONNECTIONS, 100) as load:
        while load.poll() is None:
            url = f"http://127.0.0.1:{port}/v1/models/recommender:predict"
            httpx.post(url, json={"signature_name": "recommend", "inputs": body}, timeout=60).raise_for_status()
        return wrk_result(load)


def h2load(port: int, servable: Path, folder: Path, callers: int, seconds: int) -> Result:
    """gRPC: as fast as `callers` get answers, of one user."""
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    from serving.tensor_protos import to_proto

    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "recommender", "recommend"
    for name in ("history", "exclude", "allow"):
        to_proto(np.full((1, 1), b"", object), request.inputs[name])
    to_proto(np.array([user_ids(servable)[0].encode()], object), request.inputs["user_id"])
    message = request.SerializeToString()
    (folder / "message").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    log = folder / "h2load.log"
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    load = [f"-c{callers}", "-t1", f"-D{seconds}", "--warm-up-time=1", "-d", str(folder / "message")]
    url = f"http://127.0.0.1:{port}{METHOD}"
    subprocess.run(["h2load", *load, *headers, f"--log-file={log}", url], capture_output=True, text=True, check=True)
    rows = np.loadtxt(log)
    log.unlink()
    milliseconds = rows[:, 2] / 1000
    p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9])
    return Result(len(rows) / seconds, p50, p99, p999, int((rows[:, 1] != 200).sum()))


def change(base_path: Path, servable: Path, swaps: int, port: int, rest_port: int, users: Path, rate: int) -> None:
    """New versions, one after the other, under random arrivals by REST and one steady caller by gRPC."""
    over, seen = threading.Event(), []

    def call() -> None:
        from serving.client import Client

        user = user_ids(servable)[0]
        with Client("127.0.0.1", port) as client:
            while not over.is_set():
                client.recommend(user)
                seen.append(1)
                time.sleep(0.01)

    with futures.ThreadPoolExecutor(1) as pool:
        caller = pool.submit(call)
        try:
            before = wrk(rest_port, users, 30, CONNECTIONS, rate)
            print(f"{f'before the swaps, {rate:,} a second':<40}", before, flush=True)
            begun = time.monotonic()
            with wrk_begun(rest_port, users, 3600, CONNECTIONS, rate) as load:
                try:
                    with httpx.Client() as client:  # one: to make another takes 40 ms of a core
                        for version in range(2, swaps + 2):
                            swap(base_path, servable, version, rest_port, client)
                finally:
                    load.send_signal(signal.SIGINT)
                took = time.monotonic() - begun
                during = wrk_result(load)
        finally:
            over.set()
        caller.result()
    print(f"{swaps} versions in {took:.0f} s, {took / swaps:.1f} s each", flush=True)
    print(f"{f'during {swaps} swaps':<40}", during)
    told = httpx.get(f"http://127.0.0.1:{rest_port}/monitoring/prometheus/metrics").text
    counted = re.findall(r'request_count_total{model_name="recommender",status="(\w+)"} (\S+)', told)
    print("answers by the server's own count:", ", ".join(f"{code} {float(count):,.0f}" for code, count in counted))
    print(
        f"p99 during the swaps: {during.p99 / before.p99:.1f} times that of before; "
        f"gRPC calls: {len(seen):,}, all answered"
    )


def swap(base_path: Path, servable: Path, version: int, rest_port: int, client: httpx.Client) -> None:
    """Brings a version and waits until it is served and the one before is gone."""
    temporary = base_path / f".{version}.tmp"
    shutil.copytree(servable, temporary, copy_function=os.link)
    temporary.rename(base_path / str(version))
    while f'"{version}"' not in (answer := client.get(status_url(rest_port)).text) or "LOADING" in answer:
        time.sleep(0.05)
    if version > 2:
        shutil.rmtree(base_path / str(version - 1))


def status_url(rest_port: int) -> str:
    """Where the versions' states are."""
    return f"http://127.0.0.1:{rest_port}/v1/models/recommender"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-process"]:
        call_in_process(Path(sys.argv[2]))
    else:
        main()
