"""Better settings for the Trainer: one build of examples, a search over them, the best in the configuration file."""
