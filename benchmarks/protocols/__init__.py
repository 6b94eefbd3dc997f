"""The protocols of quality.py: one module a row, each with its reader, its splits, its references and its record."""
