"""Drawing images from a trained model, one per seed."""

from __future__ import annotations

from lapcore.sampling.blocks import Sampler, sample_blocks
from lapcore.sampling.formats import FORMATS
from lapcore.sampling.loop import sample_to_folder
from lapcore.sampling.sheet import write_sheet

__all__ = ["FORMATS", "Sampler", "sample_blocks", "sample_to_folder", "write_sheet"]
