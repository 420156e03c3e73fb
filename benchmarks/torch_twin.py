"""The PyTorch network that computes what a functional Keras network computes, built by walking its graph.

So both frameworks are timed on the very same network, and the benchmark can check that before it times them.
"""

import keras
import numpy as np
import torch


class TorchTwin(torch.nn.Module):
    """A functional Keras network in PyTorch, weights copied.

    Args:
        model: functional `keras.Model` of one input and one output, made of the layers in `_BUILDERS`.

    Raises:
        KeyError: if a layer is of another kind.

    Example:
        >>> twin = TorchTwin(auxzoo.models.ResNet18((32, 32, 3), 0.25, "small", num_classes=10))
        >>> twin(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """

    def __init__(self, model):
        super().__init__()
        self.layers = torch.nn.ModuleDict()
        self.sources = {}
        for layer in model.layers:
            (node,) = layer._inbound_nodes[:1]
            self.sources[layer.name] = [tensor._keras_history.operation.name for tensor in node.input_tensors]
            self.layers[layer.name] = _BUILDERS[type(layer)](layer)
        self.last = model.output._keras_history.operation.name

    def forward(self, images):
        """Returns the output for float32 images `[batch, channels, height, width]`."""
        values = {}
        for name, layer in self.layers.items():
            sources = self.sources[name]
            values[name] = layer(*[values[source] for source in sources]) if sources else images
        return values[self.last]


class _Sum(torch.nn.Module):
    def forward(self, *terms):
        return sum(terms[1:], terms[0])


class _GlobalMean(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def _convolution(layer):
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    kernel = np.asarray(layer.kernel)
    # Keras: rows, columns, inputs, outputs (or multiplier); PyTorch: outputs, inputs of the group, rows, columns.
    kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
    channels = layer.input.shape[-1]
    convolution = torch.nn.Conv2d(
        channels,
        kernel.shape[0],
        layer.kernel_size,
        stride=layer.strides,
        dilation=layer.dilation_rate,
        groups=channels if depthwise else 1,
        bias=layer.use_bias,
    )
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(kernel.copy()))
    if layer.padding == "valid":
        return convolution
    sizes = zip(layer.input.shape[1:3], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    (top, bottom), (left, right) = (_same_padding(*size) for size in sizes)
    if (top, left) == (bottom, right):
        convolution.padding = (top, left)
        return convolution
    return torch.nn.Sequential(torch.nn.ZeroPad2d((left, right, top, bottom)), convolution)


def _same_padding(size, kernel, stride, dilation):
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _normalization(layer):
    # PyTorch's momentum is the weight of the new value, Keras' that of the old one.
    normalization = torch.nn.BatchNorm2d(layer.input.shape[-1], eps=layer.epsilon, momentum=1 - layer.momentum)
    with torch.no_grad():
        normalization.weight.copy_(torch.from_numpy(np.asarray(layer.gamma).copy()))
        normalization.bias.copy_(torch.from_numpy(np.asarray(layer.beta).copy()))
        normalization.running_mean.copy_(torch.from_numpy(np.asarray(layer.moving_mean).copy()))
        normalization.running_var.copy_(torch.from_numpy(np.asarray(layer.moving_variance).copy()))
    return normalization


def _dense(layer):
    dense = torch.nn.Linear(*layer.kernel.shape)
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(np.asarray(layer.kernel).T.copy()))
        dense.bias.copy_(torch.from_numpy(np.asarray(layer.bias).copy()))
    return dense


def _zero_padding(layer):
    (top, bottom), (left, right) = layer.padding
    return torch.nn.ZeroPad2d((left, right, top, bottom))


_BUILDERS = {
    keras.layers.InputLayer: lambda layer: torch.nn.Identity(),
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _convolution,
    keras.layers.BatchNormalization: _normalization,
    keras.layers.ReLU: lambda layer: torch.nn.ReLU6() if layer.max_value == 6 else torch.nn.ReLU(),
    keras.layers.ZeroPadding2D: _zero_padding,
    keras.layers.Add: lambda layer: _Sum(),
    keras.layers.GlobalAveragePooling2D: lambda layer: _GlobalMean(),
    keras.layers.Dense: _dense,
}
