"""Preprocessing inside the exported graph: the file then takes the values of a picture, 0 to 255."""

import keras


def with_scaling_inside(model, preprocessing):
    """Returns a network that scales its input itself.

    Fitting a picture to the input's size stays outside: it depends on the picture.

    Args:
        model: functional `keras.Model`, folded or not, of one input.
        preprocessing: `auxzoo.models.Preprocessing` of `model`.

    Returns:
        functional `keras.Model` of pictures `[batch, height, width, 3]`, values 0 to 255, with the outputs of `model`.

    Example:
        >>> with_scaling_inside(compact, auxzoo.describe(compact).preprocessing)(pictures)
    """
    pictures = keras.Input(model.inputs[0].shape[1:], name="picture")
    scaled = keras.layers.Rescaling(list(preprocessing.scale), list(preprocessing.offset), name="scaling")(pictures)
    return keras.Model(pictures, model(scaled), name=model.name)
