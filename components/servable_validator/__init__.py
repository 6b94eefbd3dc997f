"""Loads a servable in a model server of its own and asks it what users will ask."""
