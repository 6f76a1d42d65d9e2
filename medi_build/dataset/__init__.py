"""A built dataset: its schemas, how its folder is written, checked and read."""
