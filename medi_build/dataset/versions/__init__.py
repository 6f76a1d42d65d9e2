"""Versions of built datasets: an Apache Iceberg table over their shards, as they are."""
