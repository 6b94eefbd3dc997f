"""Everything that lives after a push: the model server, the registry. Never imports tfx."""
