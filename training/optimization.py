"""The optimiser of the weights: Keras' own, with weight decay on kernels only."""

from typing import Literal

import keras
import pydantic

from .settings import Settings


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

    def build(self, total_steps, variables):
        """Returns the Keras optimiser.

        Args:
            total_steps: `int`, steps of the whole training, for the schedule.
            variables: the trainable variables, of which only the kernels decay.
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
            optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": self.weight_decay})
        else:
            optimizer = keras.optimizers.SGD(momentum=self.momentum, nesterov=self.momentum > 0, **common)
        if self.weight_decay:
            undecayed = [variable for variable in variables if not variable.name.endswith("kernel")]
            optimizer.exclude_from_weight_decay(var_list=undecayed)
        return optimizer
