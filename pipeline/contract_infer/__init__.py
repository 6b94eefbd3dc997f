"""`evergreen contract infer`: a first configuration from files, with a reason beside every guess."""
