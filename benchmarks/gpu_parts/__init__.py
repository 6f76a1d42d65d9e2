"""The parts of benchmarks/gpu.py, a module each.

A part has ``run(device, small) -> Iterator[Line]``: ``device`` is "cuda" or "cpu", ``small`` asks for the form that
takes a few seconds on a CPU. It yields a line as soon as it is measured (`measure.line`), runs in a process of its own,
and is stopped where its budget ends. At its top it imports the standard library, numpy and torch alone; what it lacks
later skips it by name (`measure.skipped` for one line of it, a ``ModuleNotFoundError`` for the rest of the part).
"""
