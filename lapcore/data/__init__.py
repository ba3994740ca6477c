"""Images from every usual container, as uint8 tensors (C, H, W) with an integer label."""

from lapcore.data.dataset import ImageDataset
from lapcore.data.images import grid, read_image, to_model_range, to_uint8, write_png
from lapcore.data.open import open_images

__all__ = ["ImageDataset", "grid", "open_images", "read_image", "to_model_range", "to_uint8", "write_png"]
