"""A package, and no mere folder: IPython, which TFDV loads, puts a folder with another `tests` on the path."""
