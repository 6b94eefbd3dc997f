"""The demo: MovieLens 100K in spans, two good ones and one spoiled in two ways, then recommendations by title."""

import csv
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
USERS = {"367": "who likes horror", "275": "who likes animation and musicals", "904": "who likes romance"}


def main() -> None:
    """Everything, in order. What was done already (a span learned, data written) is not done again."""
    started = time.perf_counter()
    say("MovieLens 100K, in spans of two months")
    script("prepare.py", "--out", DATA)
    say("loading TensorFlow, TFX and Beam (about 15 s)")
    from pipeline import local_runner
    from pipeline.config import read_config
    from pipeline.places import Places

    config = read_config(HERE / "config.yaml")
    places = Places.from_environment(config.name)
    for span, words in ((1, "the first model: floors alone decide"), (2, "warm start, judged against the first")):
        if learned_by(places, span):
            say(f"Span {span} is learned already (`make clean` starts anew)")
            continue
        say(f"Span {span}: {words}")
        outcome = local_runner.run(config, places, span)
        print(local_runner.tell(outcome), flush=True)
        if outcome.kind not in ("pushed", "unchanged"):
            sys.exit(f"the demo expects span {span} to be pushed; see the report")
    for how, words in (
        ("schema", "spoiled: likes renamed to thumbs_up. The data gate should stop it"),
        ("scramble", "spoiled: training pairs scrambled, statistics as before. The evaluation should reject it"),
    ):
        say(f"Span 3, {words}")
        spoiled = places.root / "spoiled" / how
        script("spoil.py", "--data", DATA, "--span", "3", "--how", how, "--out", spoiled)
        outcome = local_runner.run(read_config(HERE / "config.yaml", str(spoiled)), places, 3)
        print(local_runner.tell(outcome), flush=True)
        if outcome.kind == "pushed":
            sys.exit("the spoiled span was pushed; it should not have been")
    ask(places)
    say(f"Done in {time.perf_counter() - started:.0f} s. Next:")
    for command, what in (
        ("make serve", "TF Serving's API on 8500 (gRPC) and 8501 (REST)"),
        (".venv/bin/evergreen run --config examples/movielens/config.yaml --span 3", "the real span 3"),
        (".venv/bin/evergreen models list", "what was pushed"),
        (".venv/bin/evergreen rollback", "back to the version before"),
        (".venv/bin/evergreen runs list", "every run, from ML Metadata"),
    ):
        print(f"  {command:<76} {what}")


def learned_by(places, span: int) -> bool:
    """Whether a pushed version has learned the span."""
    from serving.registry import Registry

    if not places.registry.exists():
        return False
    return any(record.span == span and record.state == "learned" for record in Registry.at(places.registry).spans())


def ask(places) -> None:
    """Serves what was pushed, and asks it as a caller would, by gRPC."""
    from pipeline.console import quiet
    from serving.client import Client
    from serving.server import ServerConfig, start

    say("Serving the pushed model: recommendations over TF Serving's gRPC API")
    titles = read_titles()
    with quiet(places.logs / "demo-server.log"):
        server = start(ServerConfig(model_base_path=places.serving, port=0, rest_api_port=0))
        version = server.wait_until_ready(timeout_seconds=120)
    print(f"  version {version} on port {server.port}")
    with Client("127.0.0.1", server.port) as client:
        for user, taste in USERS.items():
            answer = recommend(client, user)
            show(f"user {user}, {taste}", [titles[i] for i in answer["item_ids"]], answer["reasons"], titles)
        similar = client.predict("similar_items", {"item_id": ["50"]})["item_ids"][0]
        show(f"similar to {titles['50']}", [titles[i.decode()] for i in similar])
        answer = recommend(client, "somebody new")
        show("a user nobody has seen", [titles[i] for i in answer["item_ids"]], answer["reasons"], titles)
        answer = recommend(client, "somebody new", ["183"])
        show(f"the same user after one film: {titles['183']}", [titles[i] for i in answer["item_ids"]])
        answer = recommend(client, "somebody new", ["183", "1"])
        show(f"and after one more: {titles['1']}", [titles[i] for i in answer["item_ids"]])
    server.stop()


def recommend(client, user: str, history: list[str] | None = None) -> dict[str, list[str]]:
    """One request to the `recommend` signature; an empty history means the stored one."""
    request = {"user_id": [user], "history": [history or [""]], "exclude": [[""]], "allow": [[""]]}
    answer = client.predict("recommend", request)
    return {name: [value.decode() for value in answer[name][0]] for name in ("item_ids", "reasons")}


def show(head: str, films: list[str], reasons: list[str] | None = None, titles: dict[str, str] | None = None) -> None:
    """Five films under a heading, with why they are there."""
    print(f"\n  {head}", flush=True)
    for place, film in enumerate(films[:5]):
        told = dict(part.split("=", 1) for part in reasons[place].split(";")) if reasons else {}
        why = f"because of {titles[told['because']]}" if titles and "because" in told else told.get("source", "")
        print(f"    {place + 1}. {film:<48.48} {why}".rstrip())


def read_titles() -> dict[str, str]:
    """Item id → title, from the catalog file."""
    with (DATA / "items.csv").open(encoding="utf-8", newline="") as stream:
        return {row["item_id"]: row["title"] for row in csv.DictReader(stream)}


def script(name: str, *arguments: object) -> None:
    """Runs a script of this folder; its one line of output is shown."""
    done = subprocess.run([sys.executable, HERE / name, *map(str, arguments)], text=True, capture_output=True)
    print("  " + (done.stdout or done.stderr).strip().replace("\n", "\n  "), flush=True)
    if done.returncode:
        sys.exit(done.returncode)


def say(line: str) -> None:
    """A heading."""
    print(f"\n▸ {line}", flush=True)


if __name__ == "__main__":
    main()
