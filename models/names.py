"""Names that several rooms must agree on."""

# Every layer of an auxiliary is named with this prefix: that is how the export, which never imports
# the auxiliary's code, knows a joint network.
AUXILIARY_PREFIX = "auxiliary_"

# Keys of a joint network's outputs.
COMPACT_OUTPUT = "compact"
AUXILIARY_OUTPUT = "auxiliary"


def is_joint(model):
    """Returns whether `model` is a joint network, by the keys of its output; `False` for whatever is no model."""
    output = getattr(model, "output", None)
    return isinstance(output, dict) and set(output) == {COMPACT_OUTPUT, AUXILIARY_OUTPUT}
