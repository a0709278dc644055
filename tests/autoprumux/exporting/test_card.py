from dataclasses import replace

import pytest
import yaml

from autoprumux.errors import UsageError
from autoprumux.exporting.card import (
    Card,
    accuracy_interval,
    card_text,
    default_licence,
    hardware,
    write_card,
)
from autoprumux.exporting.choice import choose_by_budget, choose_by_number
from trainers.config import DataConfig, ModelConfig, TaskConfig, TrainerConfig

GLUE = TrainerConfig(
    task="qnli", data=DataConfig(source="glue"), model=ModelConfig(source="bert-base-uncased")
)
OWN = TrainerConfig(
    task=TaskConfig(name="mood", text_columns=("text",), labels=("sad", "glad")),
    data=DataConfig(source="/home/me/reviews"),
    model=ModelConfig(source="/home/me/models/mine"),
)


@pytest.fixture
def make_card(choice, make_result):
    def make(trainer=GLUE, *, chosen=choice, licence="mit", **options):
        result = make_result(**options)
        return Card(choice=chosen, trainer=trainer, result=result, licence=licence)

    return make


def front_matter(text):
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_front_matter_is_what_the_hub_reads(make_card, choice):
    head = front_matter(card_text(make_card()))

    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "text-classification"
    assert head["license"] == "mit"
    assert head["datasets"] == ["nyu-mll/glue"]
    assert head["base_model"] == "bert-base-uncased"
    (result,) = head["model-index"][0]["results"]
    (metric,) = result["metrics"]
    assert metric["type"] == "accuracy"
    assert metric["value"] == pytest.approx(choice.model.measurement.accuracy, abs=1e-4)


def test_the_measured_numbers_are_those_of_the_database(make_card, choice):
    text = card_text(make_card())

    measurement = choice.model.measurement
    low, high = accuracy_interval(measurement)
    assert (
        f"| accuracy | {100 * measurement.accuracy:.1f} % (95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f}) on 1000 validation examples |"
    ) in text
    assert f"{measurement.throughput.throughput:.0f} sequences/s" in text
    assert f"{measurement.speedup:.2f}x the dense baseline" in text
    assert f"{100 * choice.model.accuracy_loss:.1f} points (95 % interval" in text
    assert "| mux width N | 2 |" in text
    assert "0.60 asked for" in text
    assert "| hardware | CPU (unknown, 2 threads) |" in text
    assert "`qnli-embedded`, trial 4" in text


def test_the_budget_is_told_if_one_was_asked_for(make_card, study):
    text = card_text(make_card(chosen=choose_by_budget(study, [0.025])))

    assert "a loss of at most 2.5 points" in text
    assert "a loss of at most" not in card_text(make_card())


@pytest.mark.parametrize(("number", "is_muxed"), [(4, True), (2, False)])
def test_the_caution_is_there_where_sequences_share_a_pass(make_card, study, number, is_muxed):
    text = card_text(make_card(chosen=choose_by_number(study, number)))

    assert ("multiplexed together can influence one another" in text) == is_muxed
    assert ("none influences the result of another" in text) == (not is_muxed)
    assert ("Each 2 rows that follow one another share a pass" in text) == is_muxed


def test_a_wide_model_names_the_checkpoint_of_its_width(make_card, study):
    wide = replace(GLUE, model=replace(GLUE.model, wide_source="princeton-nlp/mux_{N}"))

    texts = [card_text(make_card(wide, chosen=choose_by_number(study, n))) for n in (0, 4)]

    widths = [choose_by_number(study, n).model.candidate.num_instances for n in (0, 4)]
    assert widths == [1, 2]
    bases = [front_matter(text)["base_model"] for text in texts]
    assert bases == ["bert-base-uncased", "princeton-nlp/mux_2"]
    assert "Weights before training: `princeton-nlp/mux_2`" in texts[1]


def test_built_in_data_are_announced_at_the_top(make_card, study):
    text = card_text(make_card(TrainerConfig(task="qnli"), licence="apache-2.0"))

    assert text.index("made-up examples, not GLUE") < text.index("## Measured")
    real = replace(study, data_fingerprint="glue:qnli:01")
    assert "made-up examples" not in card_text(make_card(chosen=choose_by_number(real, 4)))


def test_paths_of_this_machine_stay_here(make_card):
    text = card_text(make_card(OWN))

    assert "/home" not in text
    assert "a local checkpoint, `mine`" in text
    assert "base_model" not in text
    assert "datasets" not in text


@pytest.mark.parametrize(
    ("trainer", "licence"),
    [
        (TrainerConfig(), "apache-2.0"),
        (TrainerConfig(model=ModelConfig(wide_source="n{N}")), "unknown"),
        (GLUE, "unknown"),
        (OWN, "unknown"),
    ],
)
def test_a_licence_is_named_only_where_it_is_known(trainer, licence):
    assert default_licence(trainer) == licence


def test_an_unknown_licence_is_left_to_the_reader(make_card):
    text = card_text(make_card(licence="unknown"))

    assert front_matter(text)["license"] == "unknown"
    assert "set it before you pass the model on" in text


def test_the_graph_is_described_only_if_it_was_written(make_card):
    with_graph, without = card_text(make_card(with_onnx=True)), card_text(make_card())

    assert "onnx" not in without.lower()
    assert "logits within 3e-07" in with_graph
    assert "torch 1000, onnxruntime 1500 sequences/s, a ratio of 1.50" in with_graph
    assert "must be a multiple of 2" in with_graph


def test_what_could_not_be_compared_is_told(make_card):
    text = card_text(make_card(is_validation=False, why_made_up="The folder `/home/x` is gone."))

    assert "bit for bit on 256 made-up texts" in text
    assert "The validation examples were not at hand" in text
    assert "/home" not in text


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 1.0])
def test_the_interval_of_an_accuracy_stays_within_its_bounds(demo_measurement, choice, accuracy):
    measurement = replace(choice.model.measurement, accuracy=accuracy, num_examples=100)

    low, high = accuracy_interval(measurement)

    assert 0 <= low <= accuracy <= high <= 1
    assert 0.03 < high - low < 0.2


def test_a_gpu_is_named_as_the_hardware(choice):
    measurement = choice.model.measurement
    speed = replace(measurement.throughput, device="NVIDIA H100", num_threads=0)

    assert hardware(replace(measurement, throughput=speed)) == "NVIDIA H100"


def test_every_card_is_plain_text_with_whole_tables(make_card):
    text = card_text(make_card(with_onnx=True))

    assert text.isascii()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.count("|") == 3 for row in rows)


def test_a_card_that_cannot_be_written_is_a_sentence(make_card, tmp_path):
    with pytest.raises(UsageError, match=r"README\.md cannot be written: No such file"):
        write_card(make_card(), tmp_path / "gone")
