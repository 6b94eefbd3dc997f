"""Acts on the data gate's verdict: the ledger of spans, and the end of the run on a stop."""
