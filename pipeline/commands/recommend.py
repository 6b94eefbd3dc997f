"""`evergreen recommend`: what a running server would show a user."""

from pathlib import Path

import click

from components.errors import EvergreenError
from pipeline.console import table


@click.command()
@click.option("--user", "user_id", required=True, help="The user's id; one that nobody has seen is answered, too.")
@click.option("--history", multiple=True, help="An item id, the newest last; may be repeated.")
@click.option("--exclude", multiple=True, help="An item id that is not to be shown; may be repeated.")
@click.option("--allow", multiple=True, help="feature=value; may be repeated.")
@click.option("--context", multiple=True, help="name=value of a feature of the moment; may be repeated.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--rest-api-port", default=8501, show_default=True)
@click.option("--model", default="recommender", show_default=True)
@click.option("--ca", type=click.Path(path_type=Path), help="PEM file of the server's authority, for TLS.")
def recommend(
    user_id: str,
    history: tuple[str, ...],
    exclude: tuple[str, ...],
    allow: tuple[str, ...],
    context: tuple[str, ...],
    host: str,
    rest_api_port: int,
    model: str,
    ca: Path | None,
) -> None:
    """Ask a running server (make serve) what it would show a user."""
    from serving.client import Client

    if wrong := [pair for pair in context if "=" not in pair]:
        raise EvergreenError(f"--context {wrong[0]}: expected name=value, as in device=phone")
    moment = dict(pair.split("=", 1) for pair in context)
    with Client(host, rest_port=rest_api_port, model=model, ca=ca) as client:
        found = client.recommend(user_id, history, exclude, allow, **moment)
    rows = [(str(n), one.item_id, f"{one.score:.3f}", one.reasons) for n, one in enumerate(found, start=1)]
    table(("place", "item", "score", "why"), rows)
