"""What the processes of `fault_process` are forked from: all is imported, and one search is done.

The first search of a process takes three times as long as the next, because libraries build their
tables and compile their statements in it.
"""

import gc
import tempfile
from pathlib import Path

import fault_process

with tempfile.TemporaryDirectory() as folder:
    page = Path(folder) / "page.html"
    fault_process.do(fault_process.Scene(folder=Path(folder)))
    fault_process.do(fault_process.Scene(folder=Path(folder), kind="report", out=page))
gc.collect()
gc.freeze()  # a collection in a forked process would copy every page
