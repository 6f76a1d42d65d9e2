"""Training encoders: `trainer.train` runs what `settings.TrainSettings` describe."""
