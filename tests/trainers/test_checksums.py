from trainers.checksums import checksums, damaged


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
