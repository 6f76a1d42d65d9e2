"""What `benchmarks/negatives_teach.py` is made of."""
