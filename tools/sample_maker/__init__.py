"""Writes the sample data of the quickstart: hand-written material, composed the same way on every run."""
