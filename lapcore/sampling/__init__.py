"""Drawing images from a trained model, one per seed."""

from __future__ import annotations

from lapcore.sampling.loop import FORMATS, sample_blocks, sample_to_folder

__all__ = ["FORMATS", "sample_blocks", "sample_to_folder"]
