"""The schema that was frozen and reviewed, as an artifact."""
