"""What runs a pipeline: `run.build` is the whole flow, `unit` one dataset of it."""
