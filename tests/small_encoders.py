"""Sizes of small encoders that tests of several packages share."""

from autoprumux.records import EncoderFacts
from trainers.models.shape import MuxedBertShape

ENCODER = EncoderFacts(
    head_size=32,
    num_layers=4,
    dense_hidden_size=128,
    dense_num_heads=4,
    dense_feedforward_size=512,
    num_demux_layers=2,
    multiplexer="gaussian_hadamard",
    embed_mode="single_pass",
    demultiplexer="rsa",
)
"""The built-in model's."""

SMALL = MuxedBertShape(
    vocab_size=1000,
    hidden_size=16,
    dense_hidden_size=16,
    head_size=8,
    head_counts=(2,),
    feedforward_sizes=(32,),
    dense_num_heads=2,
    dense_feedforward_size=32,
    max_positions=32,
    num_instances=2,
    labels=("bad", "good"),
)
"""One layer, N = 2: trained or not, it answers in milliseconds."""
