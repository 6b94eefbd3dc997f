"""Go, warn, or stop with the reasons: the decision that TFX's own ExampleValidator never takes."""
