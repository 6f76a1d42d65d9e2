"""Which training texts hold text of an evaluation."""
