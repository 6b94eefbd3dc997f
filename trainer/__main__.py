"""Trains outside of the pipeline, in a container that holds only this package:

python -m trainer --fn-args fn_args.json
"""

import logging
from pathlib import Path

import click

from trainer.run import FN_ARGS, run_fn


@click.command(help=__doc__)
@click.option("--fn-args", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(fn_args: Path) -> None:
    """The file is what the Trainer wrote as `fn_args.json` beside its run; relative paths begin at the working folder.

    On several machines, each process gets the same file and its own `TF_CONFIG`; the first of them saves.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("evergreen").setLevel(logging.INFO)
    run_fn(FN_ARGS.validate_json(fn_args.read_bytes()))


if __name__ == "__main__":
    main()
