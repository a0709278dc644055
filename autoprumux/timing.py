"""In which setting a speed was measured: speeds of two settings say nothing beside each other."""

from collections.abc import Mapping
from typing import NamedTuple

from autoprumux.errors import MixedDevicesError


class TimingSetting(NamedTuple):
    """What a speed depends on beside the model; a tuple, as a study has thousands of them."""

    device: str
    """`cpu` or the CUDA device's name."""
    processor: str
    """Model name of the CPU; empty if it is not known, or computes nothing."""
    num_threads: int
    """CPU threads; 0 on CUDA."""
    dtype: str
    batch_size: int
    """Groups in a batch."""
    length: int
    """Tokens in a sequence."""

    def difference(self, other: "TimingSetting") -> str | None:
        """Yield the first field that differs, or None; an unknown processor equals any."""
        for name, own, others in zip(self._fields, self, other, strict=True):
            is_unknown = name == "processor" and not (own and others)
            if own != others and not is_unknown:
                return name
        return None

    def told(self, field: str) -> str:
        """Yield a field with its value, as messages name them: "`num_threads` 2"."""
        value = getattr(self, field)
        return f"`{field}` {value}" if isinstance(value, int) else f"`{field}` {value!r}"


def require_one_setting(
    owner: str, own: TimingSetting, others: Mapping[str, TimingSetting], remedy: str
) -> None:
    """Refuse speeds that cannot be compared.

    Args:
        owner: Whose speeds they are: "Study `mood`".
        own: The setting of its dense baseline.
        others: Further settings by what was measured in them.
        remedy: What to do, one sentence.

    Raises:
        MixedDevicesError: If one differs; names the first with both values.
    """
    found = {name: field for name, other in others.items() if (field := own.difference(other))}
    if not found:
        return
    name, field = next(iter(found.items()))
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise MixedDevicesError(
        f"{owner} was measured in several settings, whose speed-ups cannot be compared: its dense "
        f"baseline with {own.told(field)}, {name} with {others[name].told(field)}{more}. {remedy}"
    )
