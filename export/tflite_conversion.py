"""A TFLite file by TensorFlow's converter. For the child process that converts."""

from .traced import image_function


def save_for_tflite(network, outputs, folder):
    """Writes the SavedModel that `tflite_content` reads."""
    # Of all ways into the converter this one keeps the weights, names the tensors, and tells its errors.
    import keras

    predict, signature = image_function(network, outputs)
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", predict, input_signature=signature)
    archive.write_out(folder, verbose=False)


def tflite_content(saved_model, form, calibration):
    """Returns the bytes of the TFLite file of a SavedModel in a `Format`."""
    import tensorflow as tf

    if form.activations is not None:
        converter = whole_number_converter(saved_model, form.activations, calibration)
        if form.ends != "float32":
            converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(form.ends)
        return converter.convert()
    converter = _converter(saved_model)
    if form.quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def whole_number_converter(saved_model, activations, calibration):
    """Returns a converter to a file with float in/out whose inside is of whole numbers."""
    import tensorflow as tf

    operators = {
        "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        "int16": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    converter = _converter(saved_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [operators[activations]]
    converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    return converter


def _converter(saved_model):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter
