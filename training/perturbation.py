"""What a link is worth: the compact network's validation loss after some steps of training without it."""

import keras
import tensorflow as tf

from auxzoo.auxiliary import LinkGate, OperationChoice, detach

# Of the recipe's highest learning rate: small enough for a network that is nearly trained.
_LEARNING_RATE_SHARE = 0.1
_BATCH_SIZE = 250


def link_worths(network, operations, case):
    """Returns what every link of a trained super-network is worth.

    At fixed weights the compact network's loss does not depend on the links, so each is left out of some steps of
    training, from the same weights and on the same batches, and the loss on the held-out images is compared with
    that after as many steps with all links. The network is as it was when the function returns.

    Args:
        network: super-network.
        operations: `dict` of node to operation, the ones that are chosen.
        case: `SearchCase`.

    Returns:
        `dict` of pair `(node, tap)` to float: the loss without the link less the loss with all.
    """
    recipe = case.recipe
    layers = network.layers
    gates = {layer.link: layer for layer in layers if isinstance(layer, LinkGate)}
    choices = [layer for layer in layers if isinstance(layer, OperationChoice)]
    before = [(variable, variable.numpy()) for variable in network.variables]
    switches = {id(gate.logit) for gate in gates.values()} | {id(choice.logits) for choice in choices}
    weights = [variable for variable in network.trainable_variables if id(variable) not in switches]
    compact = detach(network)
    optimizer = keras.optimizers.SGD(_LEARNING_RATE_SHARE * recipe.optimization.learning_rate, momentum=0.9)
    optimizer.build(weights)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = recipe.objective.losses(labels, network(images, training=True), 1.0)["loss"]
        optimizer.apply(tape.gradient(loss, weights), weights)

    @tf.function(reduce_retracing=True)
    def loss_of(images, labels):
        return recipe.objective.cross_entropy(labels, compact(images, training=False))

    def restore():
        for variable, value in before:
            variable.assign(value)
        for variable in optimizer.variables[1:]:  # all but the learning rate: step and momentum
            variable.assign(tf.zeros_like(variable))
        for gate in gates.values():
            gate.is_fixed.assign(1.0)
            gate.drop.assign(0.0)
        for choice in choices:
            choice.is_fixed.assign(0.0)
            choice.temperature.assign(1.0)
            chosen = choice.operations.index(operations[choice.node])
            choice.logits.assign(1000.0 * tf.one_hot(chosen, len(choice.operations)))

    def loss_without(link):
        restore()
        if link is not None:
            gates[link].drop.assign(1.0)
        for images, labels in batches:
            step(images, labels)
        total = 0.0
        for images, labels in case.gates.batches(case.preprocessing, _BATCH_SIZE):
            total += float(loss_of(images, labels)) * len(labels)
        return total / case.gates.size

    stream = case.train.training_batches(case.preprocessing, recipe.batch_size, recipe.seed + 2, case.augmentation)
    batches = list(stream.take(recipe.search.perturbation_steps))
    with_all = loss_without(None)
    worths = {link: loss_without(link) - with_all for link in gates}
    for variable, value in before:
        variable.assign(value)
    return worths
