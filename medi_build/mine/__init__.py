"""Mining: from examples and their vectors to positives and hard negatives. Functions over arrays."""
