"""Splits UCI's Online Retail set by day: `python examples/online_retail/prepare.py --source FILE --out DIR`.

FILE is the one CSV or the .xlsx (pandas asks for openpyxl). Writes `DIR/by-day/YYYY-MM-DD.csv`: every row, in the order
and with the values of the source, but for the times, which become "2010-12-01 08:26:00".
"""

from pathlib import Path

import click
import pandas as pd

COLUMNS = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
TIMES = ("%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M")  # the .xlsx, the .csv


@click.command(help=__doc__)
@click.option("--source", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
def main(source: Path, out: Path) -> None:
    """Arguments in, one line out."""
    rows = split(read(source), out)
    click.echo(
        f"{sum(rows.values()):,} rows of {len(rows)} days ({min(rows)} to {max(rows)}) written to {out / 'by-day'}"
    )


def read(source: Path) -> pd.DataFrame:
    """All columns as text, `InvoiceDate` as times. Raises click.ClickException when the file is another one."""
    options = {"dtype": str, "keep_default_na": False}
    if source.suffix == ".xlsx":
        table = pd.read_excel(source, **options)
    else:
        try:
            table = pd.read_csv(source, encoding="utf-8", **options)
        except UnicodeDecodeError:
            table = pd.read_csv(source, encoding="cp1252", **options)  # "£" as Windows wrote it
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise click.ClickException(f"{source} has no column {', '.join(missing)}; is it UCI's Online Retail (id 352)?")
    for pattern in TIMES:
        times = pd.to_datetime(table["InvoiceDate"], format=pattern, errors="coerce")
        if times.notna().all():
            return table[COLUMNS].assign(InvoiceDate=times)
    raise click.ClickException(
        f"{source}: InvoiceDate is {table['InvoiceDate'][0]!r}; expected a time as {' or '.join(TIMES)}"
    )


def split(table: pd.DataFrame, out: Path) -> dict[str, int]:
    """One file a day; returns the rows of each day."""
    folder = out / "by-day"
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for day, part in table.groupby(table["InvoiceDate"].dt.strftime("%Y-%m-%d")):
        part.to_csv(folder / f"{day}.csv", index=False, date_format=TIMES[0], lineterminator="\n")
        rows[str(day)] = len(part)
    return rows


if __name__ == "__main__":
    main()
