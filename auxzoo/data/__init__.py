"""Labelled images: where they come from, how they become a network's input, how they are varied in training."""

from auxzoo.data.augmentation import Augmentation
from auxzoo.data.image_set import ImageSet
from auxzoo.data.preprocessing import preprocess
from auxzoo.data.sources import open_images, read_image
from auxzoo.data.targets import Target

__all__ = ["Augmentation", "ImageSet", "Target", "open_images", "preprocess", "read_image"]
