"""The graph, its configuration, and what decides when it runs."""
