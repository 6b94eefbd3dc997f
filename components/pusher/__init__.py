"""Brings a blessed servable into production: files, registry and span record, whole or not at all."""
