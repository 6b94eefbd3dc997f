"""TFX components of the chain: each package has a doorway (component.py) and the work behind it."""
