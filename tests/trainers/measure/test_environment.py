import platform

import torch

from trainers.measure.environment import PACKAGES, describe_environment


def test_the_environment_names_versions_processor_and_threads():
    words = describe_environment(torch.device("cpu"))

    assert {f"{name}_version" for name in PACKAGES} <= words.keys()
    assert words["torch_version"] == torch.__version__
    assert words["python_version"] == platform.python_version()
    assert words["num_threads"] == str(torch.get_num_threads())
    assert words["device"] == "cpu"
    assert all(isinstance(word, str) and word for word in words.values())
