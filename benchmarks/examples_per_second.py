"""Interactions per second from Parquet to TFRecords with histories, and what one more span costs. One command:

    python benchmarks/examples_per_second.py --out examples_per_second.json

First table: InteractionExampleGen (default settings; four spans, all of them learned) beside Arrow alone (read, encode,
write) and TFX's own ExampleGen for Parquet, which both write one example per row, without histories.

Second table: the last of 10 and of 300 spans, from the state of the span before, and from the raw spans of the window
of 30. Users and items are the same throughout; half of the users have the 50 interactions that a history holds before
span 10. With more users (fewer interactions each) histories still fill up after it, and cost more until they are full.

Each measurement has a process of its own, one worker of Beam and one thread of Arrow. Seconds are without imports, and
medians of interleaved repeats. "per core" is rows per CPU second, user and system. A peak is of the whole process,
imports included; "× TFX" is by CPU seconds. Wall time: 16 minutes on 2 busy cores, of which 7 CPU minutes; 10 of the 16
for the first table.
"""

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from fresh_process import Prepare, Runs, Work, in_fresh_process, interleaved

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `serving` is the package, not the script beside this

ROWS_PER_USER = 50  # of the first table's logs
ITEMS = 50_000
WINDOW_SPANS, LONG_WINDOW_SPANS = 4, 30
OUR_GZIP_LEVEL, THEIR_GZIP_LEVEL = 1, 6  # components/interaction_example_gen/write.py; what Beam writes with
CONTRACT = {
    "interactions": {"files": "spans/{span}/*.parquet", "types": {"view": 1, "purchase": 5}},
    "items": {"files": "items.parquet", "features": [{"name": "category", "type": "category"}]},
}

Line = tuple[str, ...]  # how a contender's line in a table begins
Contenders = dict[Line, tuple[Prepare, tuple[Any, ...]]]


def _numbers(context: click.Context, option: click.Parameter, text: str) -> list[int]:
    """'1,20' → [1, 20], ascending."""
    del context
    try:
        return sorted({int(number) for number in text.split(",") if number})
    except ValueError:
        raise click.BadParameter(
            f"{text!r}; expected whole numbers with commas between, such as 10,300", param=option
        ) from None


@click.command(help=__doc__)
@click.option(
    "--rows", "sizes", default="1000000,10000000", show_default=True, callback=_numbers, help="'': no first table."
)
@click.option("--stock-rows", default=200_000, show_default=True, help="The log of TFX's ExampleGen, which is slow.")
@click.option("--spans", "counts", default="10,300", show_default=True, callback=_numbers, help="'': no second table.")
@click.option("--rows-per-span", default=100_000, show_default=True, help="Of the second table's log.")
@click.option("--users", default=10_000, show_default=True, help="Of the second table's log.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write every single measurement, as JSON.")
def main(
    sizes: list[int],
    stock_rows: int,
    counts: list[int],
    rows_per_span: int,
    users: int,
    repeats: int,
    out: Path | None,
) -> None:
    """Prints both tables."""
    # of Arrow's threads; then what would stand between the tables
    os.environ |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    found: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.platform()}"}
    with tempfile.TemporaryDirectory() as folder:
        if sizes:
            found["examples_per_second"] = as_json(examples_per_second(Path(folder), sizes, stock_rows, repeats))
        if counts:
            found["one_more_span"] = as_json(one_more_span(Path(folder), counts, rows_per_span, users, repeats))
    if out is not None:
        out.write_text(json.dumps(found, indent=1))


def examples_per_second(folder: Path, sizes: list[int], stock_rows: int, repeats: int) -> dict[Line, Runs]:
    """The first table, printed."""
    logs = {
        size: make_log(folder / f"rows-{size}", size // WINDOW_SPANS, WINDOW_SPANS, size // ROWS_PER_USER)
        for size in {*sizes, stock_rows}
    }
    contenders: Contenders = {}
    for size in sizes:
        line = ("InteractionExampleGen", f"{size:,}", "yes", f"{OUR_GZIP_LEVEL}")
        contenders[line] = (evergreen, (logs[size], WINDOW_SPANS, WINDOW_SPANS))
    for level in (OUR_GZIP_LEVEL, THEIR_GZIP_LEVEL):
        line = ("Arrow alone", f"{sizes[0]:,}", "no", f"{level}")
        contenders[line] = (arrow_alone, (logs[sizes[0]], level))
    contenders["TFX ExampleGen", f"{stock_rows:,}", "no", f"{THEIR_GZIP_LEVEL}"] = (stock, (logs[stock_rows],))
    found = interleaved(contenders, folder / "out", repeats)
    *_, peer = found.values()
    show(
        ("", "rows", "histories", "gzip", "seconds", "rows/s", "per core", "× TFX", "peak MB", "imports MB", "out MB"),
        {
            line: (
                f"{runs.median('seconds'):.1f}",
                f"{runs.rate():,.0f}",
                f"{runs.rate('cpu_seconds'):,.0f}",
                f"{runs.rate('cpu_seconds') / peer.rate('cpu_seconds'):.1f}",
                *(f"{runs.median(figure):,.0f}" for figure in ("peak_mb", "imports_mb", "out_mb")),
            )
            for line, runs in found.items()
        },
    )
    first, *others = list(found.values())[: len(sizes)]
    for size, runs in zip(sizes[1:], others, strict=True):
        seconds, peak = (runs.median(figure) / first.median(figure) for figure in ("seconds", "peak_mb"))
        click.echo(f"{size / sizes[0]:g} × the rows take {seconds:.1f} × the seconds and {peak:.2f} × the memory\n")
    return found


def one_more_span(folder: Path, counts: list[int], rows_per_span: int, users: int, repeats: int) -> dict[Line, Runs]:
    """The second table, printed."""
    log = make_log(folder / "long", rows_per_span, counts[-1], users)
    contenders: Contenders = {}
    for count in counts:
        before = folder / f"span-{count - 1}"
        in_fresh_process(evergreen, before, log, count - 1, LONG_WINDOW_SPANS)
        for reads, has_state in (("state and span", True), ("raw spans", False)):
            contenders[f"{count}", reads] = (evergreen, (log, count, LONG_WINDOW_SPANS, before, has_state))
    found = interleaved(contenders, folder / "out", repeats)

    def against_first(line: Line, figure: str) -> tuple[str, str]:
        median = found[line].median(figure)
        return f"{median:.2f}", f"{median / found[f'{counts[0]}', line[1]].median(figure):.2f}"

    show(
        ("spans", "reads", "rows read", "seconds", "× first", "CPU s", "× first", "peak MB", "imports MB"),
        {
            line: (
                f"{runs.runs[0].rows:,}",
                *against_first(line, "seconds"),
                *against_first(line, "cpu_seconds"),
                *(f"{runs.median(figure):,.0f}" for figure in ("peak_mb", "imports_mb")),
            )
            for line, runs in found.items()
        },
    )
    return found


def evergreen(
    out: Path, log: Path, span: int, window_spans: int, before: Path | None = None, has_state: bool = True
) -> Work:
    """Our build. before: what it wrote for the span before, now in production, with its state or without."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from components.interaction_example_gen.build import Request, build
    from components.interaction_example_gen.contract import parse_config, parse_contract
    from components.interaction_example_gen.plan import Learned, make_plan
    from pipeline.cluster_config import IN_ONE_PROCESS

    contract, config = parse_contract(json.dumps(CONTRACT)), parse_config(json.dumps({"window_spans": window_spans}))

    def work() -> int:
        learned, learned_until_seconds = None, 0
        if before is not None:
            summary = json.loads((before / "examples/summary.json").read_text())
            lineage, learned_until_seconds = summary["lineage"], summary["eval_from_seconds"]
            learned = Learned(
                spans={int(number): seen for number, seen in lineage["learned"].items()},
                in_state=tuple(lineage["in_state"]) if has_state else (),
                reads_as=lineage["reads_as"],
            )
        request = Request(
            data_root=str(log),
            contract=contract,
            config=config,
            plan=make_plan(str(log), contract, config, span, learned=learned),
            learned_until_seconds=learned_until_seconds,
            state_uri=str(before / "state") if before is not None and has_state else None,
            examples_uri=str(out / "examples"),
            catalog_uri=str(out / "catalog"),
            users_uri=str(out / "users"),
            new_state_uri=str(out / "state"),
        )
        rows: int = build(beam.Pipeline(options=PipelineOptions(list(IN_ONE_PROCESS))), request)["rows_read"]
        return rows

    return work


def arrow_alone(out: Path, log: Path, gzip_level: int) -> Work:
    """The least there is to do: Parquet in, one example per row out, in one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    from components.interaction_example_gen.write import one_each

    def work() -> int:
        out.mkdir()
        encoder, rows = RecordBatchToExamplesEncoder(), 0
        options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=gzip_level)
        with tf.io.TFRecordWriter(str(out / "data_tfrecord-00000-of-00001.gz"), options) as writer:
            for path in sorted(log.glob("spans/*/*.parquet")):
                for batch in pq.ParquetFile(path).iter_batches(batch_size=10_000, use_threads=False):
                    columns = [c.cast(pa.binary()) if pa.types.is_string(c.type) else c for c in batch.columns]
                    lists = pa.RecordBatch.from_arrays([one_each(column) for column in columns], batch.schema.names)
                    for example in encoder.encode(lists):
                        writer.write(example)
                    rows += batch.num_rows
        return rows

    return work


def stock(out: Path, log: Path) -> Work:
    """TFX's ExampleGen for Parquet with its default settings: train and eval, 2 : 1, by a hash of the row."""
    import pyarrow.parquet as pq
    from tfx.components.example_gen import utils
    from tfx.components.example_gen.custom_executors.parquet_executor import Executor
    from tfx.proto import example_gen_pb2
    from tfx.types.standard_artifacts import Examples
    from tfx.utils import proto_utils

    from pipeline.cluster_config import IN_ONE_PROCESS

    splits = [example_gen_pb2.Input.Split(name="single_split", pattern="spans/*/*.parquet")]
    inputs = example_gen_pb2.Input(splits=splits)

    def work() -> int:
        examples = Examples()
        examples.uri = str(out)
        settings = {
            "input_base": str(log),
            "input_config": proto_utils.proto_to_json(inputs),
            "output_config": proto_utils.proto_to_json(utils.make_default_output_config(inputs)),
            "output_data_format": example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE,
        }
        executor = Executor(Executor.Context(beam_pipeline_args=list(IN_ONE_PROCESS)))
        executor.Do({}, {"examples": [examples]}, settings)
        return sum(pq.read_metadata(path).num_rows for path in log.glob("spans/*/*.parquet"))

    return work


def make_log(folder: Path, rows_per_span: int, spans: int, users: int) -> Path:
    """A log in `folder`."""
    in_fresh_process(generator, folder, rows_per_span, spans, users)
    return folder


def generator(folder: Path, rows_per_span: int, spans: int, users: int) -> Work:
    """As a Work, to be done in another process: the peak of a child begins with what its parent has."""
    from make_log import Log, write_log

    def work() -> int:
        write_log(folder, Log(rows_per_span=rows_per_span, spans=spans, users=users, items=ITEMS))
        return rows_per_span * spans

    return work


def show(header: Line, lines: dict[Line, Line]) -> None:
    """Prints a table."""
    from pipeline.console import table

    table(header, [(*line, *figures) for line, figures in lines.items()])


def as_json(found: dict[Line, Runs]) -> list[dict[str, Any]]:
    """Every measurement, for a file."""
    return [{"contender": line, "runs": runs.to_json()} for line, runs in found.items()]


if __name__ == "__main__":
    main()
