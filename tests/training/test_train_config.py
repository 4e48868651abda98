import pytest

from fuserank.errors import ConfigError
from fuserank.training.train_config import TrainConfig


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "fusion",
            "sum",
            "train: fusion is 'sum', expected one of concat, weighted, attention, channel",
        ),
        ("mse_on", "z", "train: mse_on is 'z', expected one of probability, logit"),
        (
            "history",
            "last",
            "train: history is 'last', expected one of mean, attention, gru, sasrec",
        ),
        ("adapter", "none", "train: adapter is 'none', expected one of linear, mlp, experts"),
        ("whiten", -1, "train: whiten is -1, expected 0 or more"),
        ("source_dropout", 2.0, "train: source_dropout is 2.0, expected a share from 0 to 1"),
        ("dim", 0, "train: dim is 0, expected a whole number from 1"),
        ("patience", 0, "train: patience is 0, expected a whole number from 1"),
        ("learning_rate", 0.0, "train: learning_rate is 0.0, expected a number above 0"),
        ("learning_rate", float("nan"), "train: learning_rate is nan, expected a number above 0"),
        ("mse_weight", -1.0, "train: mse_weight is -1.0, expected 0 or more"),
        ("visitors", 1.5, "train: visitors is 1.5, expected a share from 0 to 1"),
    ],
)
def test_an_option_out_of_range_is_named(option, value, message):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{option: value})
    assert str(caught.value) == message
