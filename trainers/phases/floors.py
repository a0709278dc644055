"""How many updates a schedule of pruning needs at least for its gates to close.

Adam moves a gate's parameter a by about its learning rate in an update, whatever the gradient. So
the updates in which the target rises can move it by no more than about their number times that
rate, and a gate that starts open closes only if this is enough (reference: the collapsed models of
PruMUX, whose 104 updates at 0.01 moved no gate by more than about 1).
"""

import math

from trainers.models.masks import BETA, GAMMA, OPEN_LOG_ALPHA, ZETA
from trainers.phase_config import PruneConfig

CLOSED_LOG_ALPHA = BETA * math.log(-GAMMA / ZETA)
"""Where a gate is closed as often as open."""


def schedule_mistake(config: PruneConfig, sparsity: float) -> str:
    """Yield what is wrong with a schedule for `sparsity` in (0, 1); nothing if it will do."""
    if config.allows_slow_gates:
        return ""
    rungs = config.rungs(sparsity)
    for below, rung in zip((0.0, *rungs), rungs, strict=False):
        option = "rung_updates" if below > 0 else "num_updates"
        needed = num_updates_needed(config, below, rung)
        if getattr(config, option) < needed:
            return (
                f"`prune.{option}` must be at least {needed} for gates to close on the way from a "
                f"sparsity of {below:g} to {rung:g}, got {getattr(config, option)}. Raise it, "
                "`prune.gate_learning_rate` or `prune.sparsity_warmup`, or allow it with "
                "`prune.allows_slow_gates`."
            )
    return ""


def num_updates_needed(config: PruneConfig, below: float, sparsity: float) -> int:
    """Yield the updates that a run to `sparsity` needs, from open gates or the rung `below`."""
    distance = OPEN_LOG_ALPHA - CLOSED_LOG_ALPHA
    if below > 0:
        factors = _num_factors(config.gates)
        distance = _logit((1 - below) ** (1 / factors)) - _logit((1 - sparsity) ** (1 / factors))
    return math.ceil(distance / (config.gate_learning_rate * config.sparsity_warmup) - 1e-9)


def _num_factors(gates: tuple[str, ...]) -> int:
    """Yield the gates that one weight has at most.

    Were all equally open, each would have to close the least for a rise of the sparsity.
    """
    attention = {"hidden", "head_layers", "heads"}
    feedforward = {"hidden", "feedforward_layers", "intermediate"}
    return max(len(attention & set(gates)), len(feedforward & set(gates)))


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)
