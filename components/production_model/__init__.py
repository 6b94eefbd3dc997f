"""What is in production now, as an artifact: baseline, warm start and the statistics to compare with."""
