"""Names that several rooms must agree on."""

# Every layer of an auxiliary is named with this prefix: that is how the export, which never imports
# the auxiliary's code, knows a joint network.
AUXILIARY_PREFIX = "auxiliary_"

# Keys of a joint network's outputs. An auxiliary with several heads has one key a head, which begin with the second.
COMPACT_OUTPUT = "compact"
AUXILIARY_OUTPUT = "auxiliary"


def branch_tap(task=None):
    """Returns the tap at the end of a dense head; `task` is the name of its task where the network has several."""
    return "aspp" if task is None else f"{task}_aspp"


def auxiliary_outputs(outputs):
    """Returns the values of the auxiliary's heads in a joint network's output dict, in their order."""
    return [value for name, value in outputs.items() if name.startswith(AUXILIARY_OUTPUT)]


def is_joint(model):
    """Returns whether `model` is a joint network, by the keys of its output; `False` for whatever is no model."""
    output = getattr(model, "output", None)
    if not isinstance(output, dict) or COMPACT_OUTPUT not in output:
        return False
    heads = auxiliary_outputs(output)
    return bool(heads) and len(output) == 1 + len(heads)
