"""How good the recommendations are, beside baselines of this run and published figures. One command a row:

    python benchmarks/quality.py next-item --data ml-1m-seq         MovieLens 1M, the last item of each user
    python benchmarks/quality.py two-tower --data gowalla-lightgcn  Gowalla, the LightGCN split
    python benchmarks/quality.py continual --data ader-diginetica   DIGINETICA, sixteen weeks one after the other
    python benchmarks/quality.py top-100                            MovieLens 100K, the TFRS tutorial's protocol
    python benchmarks/quality.py rating                             MovieLens 100K, RMSE of ratings

The model is the Trainer's own (trainer.saved, trainer.loop) with the record that stands in the protocol's module. What
is chosen, is chosen on `--judged validation`; the default is the test, for the report. Published figures are copied;
everything else is computed here. ALS is in the table where `implicit` is installed:

    uv pip install --python .venv/bin/python -r benchmarks/requirements.txt
"""

import importlib
import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.group(help=__doc__)
def main() -> None:
    """Sets up what all rows share: little noise from TensorFlow, a line per epoch from the Trainer."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)  # Google's clients tell that Python 3.10 is old
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("evergreen").setLevel(logging.INFO)


def row(name: str, module: str, has_default_data: bool, several_seeds: int, help_text: str) -> Callable[..., None]:
    """A command that runs `protocols.<module>.run(path, options)` and prints its table."""

    @main.command(name, help=help_text)
    @click.option(
        "--data",
        required=not has_default_data,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder with the unpacked files" + ("; without it they are fetched." if has_default_data else "."),
    )
    @click.option("--judged", default="test", type=click.Choice(["validation", "test"]), show_default=True)
    @click.option("--epochs", type=click.IntRange(min=1), help="At most, instead of the record's.")
    @click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Of training, at most.")
    @click.option("--seed", type=int, default=1, show_default=True, help="Of the first training.")
    @click.option("--seeds", type=click.IntRange(min=1), default=several_seeds, show_default=True, help="How many.")
    @click.option("--features", "has_features", is_flag=True, help="Once more with the features of users and items.")
    @click.option("--baselines-only", is_flag=True, help="Without learning anything.")
    @click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of TrainerConfig, as JSON or a word.")
    def command(
        data: Path | None, settings: tuple[str, ...], seed: int, seeds: int, baselines_only: bool, **told: Any
    ) -> None:
        from protocols.options import Options

        import trainer  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)

        try:
            overrides = dict(parsed(setting) for setting in settings)
            all_seeds = tuple(range(seed, seed + seeds))
            options = Options(overrides=overrides, seeds=all_seeds, is_learned=not baselines_only, **told)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--set") from error
        click.echo(importlib.import_module(f"protocols.{module}").run(data, options))

    return command


def parsed(setting: str) -> tuple[str, Any]:
    """`embedding_dim=128` → ("embedding_dim", 128); what is not JSON is a word. Raises ValueError without a `=`."""
    key, separator, value = setting.partition("=")
    if not separator:
        raise ValueError(f"{setting!r} has no '='; expected key=value, for example embedding_dim=128")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


row("next-item", "next_item", False, 1, "Next item, MovieLens 1M: HR@10 and NDCG@10, bar NDCG@10 ≥ .188")
row("two-tower", "two_tower", False, 1, "Two towers, Gowalla: Recall@20 and NDCG@20, bar Recall@20 > .1754")
row("continual", "continual", False, 1, "Week by week, DIGINETICA: Recall@20 and MRR@20, bar Recall@20 ≥ .485")
row("top-100", "top_100", True, 1, "MovieLens 100K: top-100 accuracy, bar > .40, and > .617 with seen films left out")
row("rating", "rating", True, 5, "MovieLens 100K: RMSE of ratings, bar ≤ .915")


if __name__ == "__main__":
    main()
