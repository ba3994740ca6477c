"""Training of any model of `lapcore.models`: exact resume, EMA, mixed precision, one or many processes."""

from lapcore.training.config import TrainConfig
from lapcore.training.joining import join
from lapcore.training.loop import train
from lapcore.training.run import RunConfig, resume_command
from lapcore.training.stop import Stopped

__all__ = ["RunConfig", "Stopped", "TrainConfig", "join", "resume_command", "train"]
