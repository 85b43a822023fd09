"""How waves are grouped and padded for an encoder."""

import torch

from fun_asr.models.runs import of_few_lengths


def test_lengths_are_few_and_what_is_added_is_silent() -> None:
    features = torch.ones(2, 3, 37)
    padded = of_few_lengths(features, 32, dim=2)
    assert padded.shape == (2, 3, 64)
    assert torch.equal(padded[..., :37], features)
    assert padded[..., 37:].eq(0).all()
    assert of_few_lengths(features, 32, dim=1).shape == (2, 32, 37)
    assert of_few_lengths(padded, 32, dim=2) is padded


def test_no_more_than_the_encoder_takes() -> None:
    assert of_few_lengths(torch.ones(1, 80, 2990), 32, dim=2, most=3000).shape[2] == 3000
    assert of_few_lengths(torch.ones(1, 80, 3000), 32, dim=2, most=3000).shape[2] == 3000
