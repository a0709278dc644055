import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainers.models.checkpoints import CONFIG_FILE, save_model
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape

SHAPE = MuxedBertShape(
    vocab_size=1,
    hidden_size=32,
    dense_hidden_size=32,
    head_size=8,
    head_counts=(4, 4),
    feedforward_sizes=(64, 64),
    dense_num_heads=4,
    dense_feedforward_size=64,
    max_positions=24,
    num_classes=3,
    dropout=0.0,
    embed_mode="single_pass",
)
LABELS = ("no", "perhaps", "yes")


@pytest.fixture(scope="session")
def make_directory(tokenizer, tmp_path_factory) -> Callable[..., Path]:
    """Write a random model of three classes; `described` joins its `config.json`."""

    def build(num_instances: int = 1, *, described=None, seed=0, **changes) -> Path:
        size = tokenizer.get_vocab_size()
        changes = {"labels": LABELS, **changes}
        shape = replace(SHAPE, vocab_size=size, num_instances=num_instances, **changes)
        torch.manual_seed(seed)
        model = MuxedBert(shape)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("weight") and "norm" not in name:  # so that classes vary
                    parameter.add_(
                        (1.0 if "tokens" in name else 0.3) * torch.randn_like(parameter)
                    )
        directory = tmp_path_factory.mktemp("model")
        save_model(model, directory, tokenizer)
        path = directory / CONFIG_FILE
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | (described or {})), encoding="utf-8")
        return directory

    return build
