"""How families of encoders name their weights and describe their sizes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a family of encoders names its weights; those of BERT are the defaults."""

    prefix: str
    """Stands before the names of the encoder if there is a head beside it."""
    layer: str = "encoder.layer.{}."
    query_key_value: tuple[str, str, str] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    )
    attention_output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    feedforward_input: str = "intermediate.dense"
    feedforward_output: str = "output.dense"
    feedforward_norm: str = "output.LayerNorm"
    skips_positions: bool = False
    """True if position 0 is in row `pad_token_id + 1` of its table."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Beginnings of names, and what BERT calls these weights."""
    ignored: tuple[str, ...] = ("cls.", "qa_outputs.")
    """Beginnings of the names of heads that are not ours."""


_ROBERTA = Layout(
    prefix="roberta.",
    skips_positions=True,
    renamed=(("classifier.dense.", "pooler.dense."), ("classifier.out_proj.", "classifier.")),
    ignored=("lm_head.", "qa_outputs."),
)
LAYOUTS = {
    "bert": Layout(prefix="bert."),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Layout(
        prefix="electra.",
        renamed=(("classifier.", "ignored."),),  # another function lies between its two layers
        ignored=("ignored.", "discriminator_", "generator_", "qa_outputs."),
    ),
    "distilbert": Layout(
        prefix="distilbert.",
        layer="transformer.layer.{}.",
        query_key_value=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        feedforward_input="ffn.lin1",
        feedforward_output="ffn.lin2",
        feedforward_norm="output_layer_norm",
        renamed=(("pre_classifier.", "ignored."), ("classifier.", "ignored.")),  # as ELECTRA's
        ignored=("ignored.", "vocab_", "qa_outputs."),
    ),
}
"""Layouts by the `model_type` of transformers."""
FIRST_SPELLINGS = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
"""Ends of names in the first BERT checkpoints, and what they became."""


def plain_name(name: str, layout: Layout) -> str:
    """Yield the name of a weight without the prefix and the spellings that families add."""
    name = name.removeprefix(layout.prefix)
    for theirs, ours in layout.renamed:
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
    for theirs, ours in FIRST_SPELLINGS:
        if name.endswith(theirs):
            name = name.removesuffix(theirs) + ours
    return name
