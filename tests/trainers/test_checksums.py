import pytest
import torch

from trainers.checksums import checksums, damaged, tensors_checksum


def test_files_that_are_as_they_were_are_not_damaged(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)

    expected = checksums(tmp_path.iterdir())

    assert list(expected) == ["a", "b"]
    assert damaged(tmp_path, expected) == []


def test_files_that_changed_or_are_gone_are_damaged(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    expected = checksums(tmp_path.iterdir())

    (tmp_path / "a").write_text("A")
    (tmp_path / "b").unlink()

    assert damaged(tmp_path, expected) == ["a", "b"]


def test_checksum_of_tensors_does_not_depend_on_their_order_or_layout():
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor(1.5, dtype=torch.bfloat16)

    expected = tensors_checksum({"a": a, "b": b}, "text")

    assert tensors_checksum({"b": b, "a": a.T.contiguous().T}, "text") == expected


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"a": torch.zeros(4)}, "other"),
        ({"b": torch.zeros(4)}, "text"),
        ({"a": torch.zeros(2, 2)}, "text"),
        ({"a": torch.zeros(4, dtype=torch.int32)}, "text"),
        ({"a": torch.tensor([0.0, 0.0, 0.0, -0.0])}, "text"),
        ({"a": torch.zeros(4), "b": torch.zeros(0)}, "text"),
    ],
)
def test_checksum_of_tensors_tells_what_changed(tensors, text):
    assert tensors_checksum(tensors, text) != tensors_checksum({"a": torch.zeros(4)}, "text")
