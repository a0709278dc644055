"""What single heads, feed-forward units and hidden dimensions are worth to a trained model."""

from dataclasses import fields

import numpy as np
import torch
from torch.nn import functional as F

from trainers.data.encoding import Encoded
from trainers.errors import ShapeError
from trainers.measure.batching import make_batch
from trainers.models.masks import Masks, open_masks
from trainers.models.muxed_bert import MuxedBert

_NAMES = tuple(field.name for field in fields(Masks))
NUM_EXAMPLES, BATCH_SIZE = 2048, 64
SOFTENING = 4.0
"""Logits are divided by it: a model that is certain of its training examples has no gradients."""


def unit_scores(model: MuxedBert, examples: Encoded, *, seed: int) -> Masks:
    """Yield the squared gradient of the loss by each gate, all gates open, over random batches.

    The sum of squared gradients is the diagonal of the Fisher information of the gates: how much
    the loss changes, to second order, if a unit is taken away (as in Kwon et al. 2022).

    Args:
        model: Dense plain model, fine-tuned for the task.
        examples: Labelled examples; at most `NUM_EXAMPLES` of them are read.
        seed: Chooses them.

    Returns:
        Scores, at least 0, in the shapes of `Masks`.

    Raises:
        ShapeError: If the model multiplexes, or the examples have no labels.
    """
    if model.shape.num_instances != 1 or examples.labels is None:
        raise ShapeError("Units are scored on labelled examples and with N = 1.")
    model.eval()
    device = model.embeddings.tokens.weight.device
    opened = open_masks(model.shape)
    gates = [getattr(opened, name).to(device).requires_grad_() for name in _NAMES]
    masks = Masks(**dict(zip(_NAMES, gates, strict=True)))
    totals = [torch.zeros_like(gate) for gate in gates]
    order = np.random.default_rng(seed).permutation(len(examples))[:NUM_EXAMPLES]
    for chosen in np.array_split(order, -(-len(order) // BATCH_SIZE)):
        labels = torch.from_numpy(examples.labels[chosen]).to(device)
        with torch.enable_grad():
            logits = model(make_batch(examples, chosen[:, None], device), masks)[:, 0]
            loss = F.cross_entropy(logits / SOFTENING, labels)
            gradients = torch.autograd.grad(loss, gates)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient.square()
    return Masks(**dict(zip(_NAMES, totals, strict=True)))
