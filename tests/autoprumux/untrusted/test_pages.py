"""Names from strangers in model cards and study files; pages and notes have tests of their own."""

import re
import tomllib
from dataclasses import replace

import pytest
import yaml

from autoprumux.exporting.card import Card, card_text
from autoprumux.exporting.choice import choose_by_number
from autoprumux.records import StudyRecord
from autoprumux.report.page.provenance import study_file
from autoprumux.study_files import load_study
from trainers.config import TrainerConfig
from trainers.results import ExportResult

EVIL = (
    "<script>alert(1)</script>",
    "x\n---\nlicense: mit\n---\n# y",
    "`code` <img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "a: !!python/object/apply:os.system ['id']",
    "\x1b[31mred",
)


def card(study: StudyRecord, evil: str) -> str:
    result = ExportResult(
        labels=(evil, "other"),
        text_columns=(evil,),
        num_sequences=4,
        is_validation=True,
        why_made_up="",
        environment={"processor": evil},
        onnx=None,
    )
    choice = choose_by_number(study, 4)
    return card_text(Card(choice=choice, trainer=TrainerConfig(), result=result, licence="mit"))


@pytest.fixture
def study_of(demo_study):
    """Factory: the demo study with a name in all places that a stranger writes to."""

    def make(evil):
        trials = tuple(
            replace(
                t,
                measurement=replace(
                    t.measurement,
                    environment={evil + "_version": evil, "processor": evil},
                    throughput=replace(t.measurement.throughput, device=evil, dtype=evil),
                    phases=tuple(replace(p, name=evil) for p in t.measurement.phases),
                ),
            )
            if t.measurement
            else t
            for t in demo_study.trials
        )
        words = {"name": evil, "task": evil, "config_hash": evil, "data_fingerprint": evil}
        return replace(demo_study, trials=trials, **words)

    return make


@pytest.mark.parametrize("evil", EVIL)
def test_no_name_becomes_markup_in_a_card(study_of, evil):
    text = card(study_of(evil), evil)
    _, head, body = text.split("---\n", 2)

    front = yaml.safe_load(head)
    assert front["license"] == "mit"
    assert set(front) <= {
        *("language", "license", "library_name", "pipeline_tag", "tags", "datasets"),
        *("base_model", "model-index"),
    }
    unescaped = re.sub(r"\\.", "", body)  # a mark after a backslash is shown as it is
    outside = "".join(part for i, part in enumerate(unescaped.split("`")) if i % 2 == 0)
    for mark in ("<script", "<img", "](javascript", "\x1b", "\n---"):
        assert mark not in outside
    assert "\n---\n" not in body


@pytest.mark.parametrize("evil", EVIL)
def test_the_study_file_of_a_page_is_toml_whatever_is_stored(demo_study, evil):
    trainer = {"task": "qnli", evil: {evil: [evil, 1.5, "\U0001f600\x7f"]}}
    study = replace(demo_study, name=evil, config=demo_study.config | {"trainer": trainer})

    table = tomllib.loads(study_file(study))

    assert table["name"] == evil


def test_a_task_named_like_a_script_is_harmless(tmp_path):
    path = tmp_path / "mine.toml"
    name = "<script>alert(1)</script>"
    path.write_text(
        f"[task]\nname = '{name}'\ntext_columns = ['a']\nlabels = ['0', '1']\n", encoding="utf-8"
    )

    assert load_study(str(path)).trainer.task_name == name
