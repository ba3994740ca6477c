"""Training of any model of `lapcore.models`: exact resume, EMA, mixed precision, one or many processes."""

from lapcore.training.config import RunConfig, TrainConfig
from lapcore.training.loop import train

__all__ = ["RunConfig", "TrainConfig", "train"]
