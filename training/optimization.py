"""The optimiser of the weights: Keras' own, with weight decay on kernels only."""

import contextlib
from typing import Literal

import keras
import pydantic

from ..models.description import trunk_layers
from ..models.names import AUXILIARY_PREFIX
from .settings import Settings


class _Rates:
    """Lets variables of an optimiser have learning rates of their own, as multiples of the schedule's; decay too.

    `rates` is a tuple of them in the order of the variables, or empty where all are 1.
    """

    rates = ()

    def update_step(self, gradient, variable, learning_rate):
        rate = self._rate(variable)
        super().update_step(gradient, variable, learning_rate if rate == 1 else learning_rate * rate)

    def _apply_weight_decay(self, variables):
        if not self.rates or self.weight_decay is None:
            super()._apply_weight_decay(variables)
            return
        for variable in variables:
            if self._use_weight_decay(variable):
                learning_rate = keras.ops.cast(self.learning_rate, variable.dtype)
                variable.assign(variable - variable * self.weight_decay * self._rate(variable) * learning_rate)

    def _rate(self, variable):
        # By its place: Keras hands on the variable itself, or what is inside it.
        return self.rates[self._get_variable_index(variable)] if self.rates else 1


class SGDWithRates(_Rates, keras.optimizers.SGD):
    """Keras' SGD with rates."""


class AdamWWithRates(_Rates, keras.optimizers.AdamW):
    """Keras' AdamW with rates."""


class Optimization(Settings):
    """How the weights are moved: optimiser, learning rate and its schedule, decay, averaging, clipping.

    Example:
        >>> optimizer = Optimization(learning_rate=0.2).build(total_steps=1000, variables=[])
        >>> optimizer.name
        'SGD'
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd` is with Nesterov momentum."""

    learning_rate: float = pydantic.Field(0.1, gt=0)
    """The highest value of the schedule."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` rises linearly over `warm_up` and falls to zero at the last step."""

    warm_up: float = pydantic.Field(0.2, ge=0, lt=1)
    """Fraction of the steps over which the learning rate rises."""

    momentum: float = pydantic.Field(0.9, ge=0, lt=1)
    """Momentum of `sgd`."""

    weight_decay: float = pydantic.Field(5e-3, ge=0)
    """Decoupled decay of kernels, a fraction of the learning rate a step, none on batch-norm or bias.
    With momentum 0.9 a value of 5e-3 pulls like the 5e-4 of a penalty added to the loss."""

    ema_momentum: float | None = pydantic.Field(None, gt=0, lt=1)
    """Momentum of the moving average of the weights that is validated and kept in the end; none if not set."""

    gradient_clip_norm: float | None = pydantic.Field(None, gt=0)
    """Largest norm of the whole gradient; not clipped if not set."""

    trunk_rate: float = pydantic.Field(1.0, ge=0)
    """Learning rate of the trunk, as a multiple of the others'; below 1 where it is pretrained."""

    auxiliary_rate: float = pydantic.Field(1.0, ge=0)
    """Learning rate of the auxiliary, as a multiple of the others'."""

    trunk_normalization: Literal["train", "freeze"] = "train"
    """`freeze` leaves batch-norm of the trunk, parameters and statistics, as it came: for batches of a few images."""

    @contextlib.contextmanager
    def frozen(self, network, description=None):
        """Freezes, as long as the block lasts, what shall not be trained: batch-norm of the trunk, if so.

        Args:
            network: as of `rates`, and so `description`.
        """
        layers = []
        if self.trunk_normalization == "freeze":
            layers = [
                layer
                for layer in trunk_layers(network, description)
                if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            ]
        try:
            for layer in layers:
                layer.trainable = False
            yield
        finally:
            for layer in layers:
                layer.trainable = True

    def rates(self, network, description=None):
        """Returns by what the learning rate of a network's variables is multiplied: `dict` of their `id`, where not 1.

        Args:
            network: compact or joint network; its description names the end of the trunk if the trunk has its own.
            description: `Description` of a network that carries none.
        """
        rates = {}
        if self.auxiliary_rate != 1:
            for layer in network.layers:
                if layer.name.startswith(AUXILIARY_PREFIX):
                    rates |= {id(variable): self.auxiliary_rate for variable in layer.trainable_variables}
        if self.trunk_rate != 1:
            for layer in trunk_layers(network, description):
                rates |= {id(variable): self.trunk_rate for variable in layer.trainable_variables}
        return rates

    def build(self, total_steps, variables, rates=None):
        """Returns the Keras optimiser.

        Args:
            total_steps: `int`, steps of the whole training, for the schedule.
            variables: the trainable variables, of which only the kernels decay.
            rates: what `rates` returned.
        """
        learning_rate = self.learning_rate
        if self.schedule == "cosine":
            warm_up_steps = int(total_steps * self.warm_up)
            learning_rate = keras.optimizers.schedules.CosineDecay(
                # Without warm-up the schedule starts at its height.
                initial_learning_rate=self.learning_rate * (0.01 if warm_up_steps else 1.0),
                warmup_target=self.learning_rate if warm_up_steps else None,
                warmup_steps=warm_up_steps,
                decay_steps=max(total_steps - warm_up_steps, 1),
            )
        common = {
            "learning_rate": learning_rate,
            "weight_decay": self.weight_decay or None,
            "global_clipnorm": self.gradient_clip_norm,
            "use_ema": self.ema_momentum is not None,
        }
        if self.ema_momentum is not None:
            common["ema_momentum"] = self.ema_momentum
        if self.optimizer == "adamw":
            optimizer = AdamWWithRates(**{**common, "name": "AdamW", "weight_decay": self.weight_decay})
        else:
            optimizer = SGDWithRates(name="SGD", momentum=self.momentum, nesterov=self.momentum > 0, **common)
        if rates:
            optimizer.rates = tuple(rates.get(id(variable), 1.0) for variable in variables)
        if self.weight_decay:
            undecayed = [variable for variable in variables if not variable.name.endswith("kernel")]
            optimizer.exclude_from_weight_decay(var_list=undecayed)
        return optimizer
