"""Training encoders: `trainer.train` runs what `TrainSettings` describe."""

from medi_build.train.settings import TrainSettings

__all__ = ["TrainSettings"]
