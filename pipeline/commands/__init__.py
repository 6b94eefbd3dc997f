"""Groups of the `evergreen` command: arguments in, one call out."""
