"""Inputs to start from: right ones, and the words that hurt parsers."""

import json
from functools import cache
from importlib import resources

from fuzz.targets import RECORDED, stored_tables

HURTFUL = (
    *("nan", "-inf", "1e999", "1e-320", "-0", "9" * 20, "9" * 5000, "0x" + "f" * 400, "1_0"),
    *("[" * 50, "{" * 50, "[" * 2000, '{"a":' * 2000, "a." * 40, "{a=" * 2000, "]", "}", ","),
    *("\0", "\x1b[31m", "\ud7ff", "\ufeff", "\u2028", "\u202e", "\r", "\n", "\t", '"', "'", "\\"),
    *('"\\ud800"', "\\u0000", "'''", '"""', "=", ":", "#", "../../etc/passwd", "/dev/zero"),
    *("<script>alert(1)</script>", "'; DROP TABLE prumux_studies; --", "null", "true", "{}", "[]"),
)

CONFIG = {
    "model_type": "muxed_bert",
    "vocab_size": 300,
    "hidden_size": 8,
    "dense_hidden_size": 8,
    "head_size": 4,
    "head_counts": [2, 1],
    "feedforward_sizes": [16, 0],
    "dense_num_heads": 2,
    "dense_feedforward_size": 16,
    "max_positions": 32,
    "num_instances": 2,
    "num_classes": 2,
    "labels": ["no", "yes"],
    "id2label": {"0": "no", "1": "yes"},
    "task": "sst2",
    "text_columns": ["sentence"],
    "max_length": 16,
    "layer_norm_eps": 1e-12,
}

_HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "I64", "shape": [1, 1], "data_offsets": [8, 16]},
}

_STUDY = """name = "mine"
extends = "embedded"
[search]
widths = [1, 2]
sparsities = [0.0, 0.6]
budget = "0:2:1"
seed = 3
[trainer.model]
source = "builtin"
[trainer.prune]
gates = ["heads", "hidden"]
[task]
name = "mine"
text_columns = ["a", "b"]
labels = ["x", "y"]
"""


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """Yield right inputs of a target."""
    rows = (RECORDED / "sst2-builtin-builtin.csv").read_bytes().splitlines(keepends=True)[:4]
    header = json.dumps(_HEADER).encode()
    weights = bytes(range(16))
    table = 'sentence\tlabel\na fine film\t1\nnot "so" fine\t0\n'
    jsonl = '{"sentence": "a fine film", "label": 1}\n{"sentence": "bad", "label": "0"}\n'
    found: dict[str, tuple[bytes, ...]] = {
        "study_file": (_STUDY.encode(), _preset("embedded"), _preset("minilm")),
        "task_file": (_STUDY.encode(), b'name = "x"\ntext_columns = ["a"]\nlabels = ["0", "1"]'),
        "setting": (
            b"search.max_trials=3",
            b"task={name='x', text_columns=['t'], labels=['a','b']}",
            b"trainer.prune.gates=['heads']",
        ),
        "budgets": (b"2", b"1,3,10", b"0:10:0.5"),
        "grid": (b"1,2,5|0,0.6,0.95", b"1,10|0.0,0.5"),
        "csv": (table.replace("\t", ",").encode(), b'sentence,label\n"a,\nb",1\n'),
        "jsonl": (jsonl.encode(),),
        "model_config": (json.dumps(CONFIG).encode(),),
        "safetensors": (header + b"\0\0" + weights,),
        "safetensors_file": (len(header).to_bytes(8, "little") + header + weights,),
        "recording_rows": (b"".join(rows),),
        "recording_header": ((RECORDED / "sst2-builtin-builtin.json").read_bytes(),),
        "database": tuple(_lines()),
    }
    found |= {"csv_stream": found["csv"], "jsonl_stream": found["jsonl"]}
    return found.get(target, (table.encode(),))


def _preset(name: str) -> bytes:
    return (resources.files("studies") / f"{name}.toml").read_bytes()


def _lines() -> list[bytes]:
    """Yield a line for every column of every table, with the value that stands in it."""
    lines = []
    for table, rows in stored_tables().items():
        for column, value in rows[0].items() if rows else ():
            if isinstance(value, bytes) or column == "number":
                continue  # bytes have no JSON, and two rows of one number are no study
            shown = value if isinstance(value, str) else json.dumps(value, default=repr)
            lines.append(f"{table}.{column}={shown}".encode())
    return lines
