"""Special tokens of a tokenizer: what pads, opens, parts and hides, whatever it is called."""

from dataclasses import astuple, dataclass

from tokenizers import Tokenizer

from trainers.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """How one family of tokenizers spells its special tokens."""

    pad: str
    unknown: str
    first: str
    """Stands before a text, and its state is classified: `[CLS]` wherever this code names it."""
    separator: str
    mask: str

    def as_tuple(self) -> tuple[str, ...]:
        """Yield the spellings in the order of the fields."""
        return astuple(self)


BERT_TOKENS = SpecialTokens(
    pad="[PAD]", unknown="[UNK]", first="[CLS]", separator="[SEP]", mask="[MASK]"
)
ROBERTA_TOKENS = SpecialTokens(
    pad="<pad>", unknown="<unk>", first="<s>", separator="</s>", mask="<mask>"
)


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """Yield the spelling that a tokenizer uses: RoBERTa's if it has `<s>` and no `[CLS]`."""
    has_bert, has_roberta = (
        tokenizer.token_to_id(family.first) is not None for family in (BERT_TOKENS, ROBERTA_TOKENS)
    )
    return ROBERTA_TOKENS if has_roberta and not has_bert else BERT_TOKENS


def token_ids(tokenizer: Tokenizer, tokens: tuple[str, ...]) -> tuple[int, ...]:
    """Yield the ids of special tokens.

    Raises:
        CheckpointError: If the tokenizer lacks one.
    """
    ids = {token: tokenizer.token_to_id(token) for token in tokens}
    missing = [token for token, index in ids.items() if index is None]
    if missing:
        raise CheckpointError(
            f"The tokenizer lacks {', '.join(missing)}; one of the BERT or RoBERTa family is "
            "needed."
        )
    return tuple(index for index in ids.values() if index is not None)
