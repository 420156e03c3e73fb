"""DeepLab-lite: semantic segmentation with a light atrous spatial pyramid (arXiv:1706.05587, arXiv:1802.02611)."""

from auxzoo.errors import UserError
from auxzoo.tasks import Task

from .arguments import check_classes, check_count
from .heads import CHANNELS
from .multi_task import with_heads


def DeepLabLite(backbone, num_classes, labels=(), channels=CHANNELS, low_level=True, name="deeplab_lite", colours=()):
    """A segmentation head over a backbone: a light ASPP with image pooling, and bilinear upsampling.

    Branches: 1x1 convolution, separable 3x3 convolutions at two atrous rates, image pooling; concatenated,
    projected by 1x1, classified by 1x1, added to what a 1x1 convolution sees in finer features, and upsampled to the
    size of the input.

    Args:
        backbone: `Network` without head whose features have an output stride of 16 or 8, such as
            `MobileNetV2(..., output_stride=16)`; its layers and weights are shared.
        num_classes: `int`, 2 (a thing and all else) to 255: the value 255 is where a mask has no truth.
        labels: names of the classes, `num_classes` of them, or none.
        channels: `int`, width of the ASPP's branches.
        low_level: whether logits of the features at twice the resolution, or the next finer of the backbone's taps, are
            added. They cost next to nothing, and what is smaller than a cell of 16 pixels is lost without them.
        name: `str`, name of the network.
        colours: red, green and blue, 0 to 255, of each class, in which predictions are drawn; chosen if there are none.

    Returns:
        `Network`: functional, float32 images `[batch, height, width, 3]` to logits
        `[batch, height, width, num_classes]`. Taps: those of the backbone, and `aspp`.

    Raises:
        UserError: if `backbone` has a head or another output stride, or an argument is wrong.

    Source: arXiv:1706.05587, figure 5; separable branches as in arXiv:1802.02611; logits of low-level features as in
    arXiv:1905.02244, figure 10.

    Example:
        >>> backbone = auxzoo.models.MobileNetV2((96, 96, 3), alpha=0.35, output_stride=16)
        >>> DeepLabLite(backbone, num_classes=11).output.shape
        (None, 96, 96, 11)
    """
    check_count("num_classes", num_classes)
    if not 2 <= num_classes <= 255:
        raise UserError(f"`num_classes` must be 2 to 255, a class each and one for all else. Received: {num_classes}")
    check_classes(num_classes, labels)
    task = Task("segmentation", "segmentation", labels, colours)
    if colours and len(task.colours) != num_classes:
        raise UserError(f"`colours` must be {num_classes}, one a class. Received: {len(task.colours)}")
    return with_heads(backbone, {task: num_classes}, channels, low_level, name)
