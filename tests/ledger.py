"""What the ledger of spans says, as tests want it."""

from serving.registry import Registry


def overrides(registry: Registry) -> dict[int, dict[str, str]]:
    """Span → who accepted it and why, of those whose last record says so."""
    return {record.span: record.verdict["override"] for record in registry.spans() if "override" in record.verdict}
