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


def tflite_content(saved_model, quantization, calibration):
    """Returns the bytes of the TFLite file of a SavedModel."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization in ("int8", "int8_float_io"):
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    if quantization == "int8":
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    return converter.convert()
