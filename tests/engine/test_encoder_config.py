import json
from dataclasses import replace

import pytest

from fuserank.engine.encoder_config import EncoderConfig, Pooling, Precision, TextRole
from fuserank.errors import BundleFormatError

CONFIG = EncoderConfig(
    model="tiny",
    dim=8,
    max_tokens=12,
    pad_token_id=0,
    pooling=Pooling.MEAN,
    normalized=True,
    precision=Precision.FP32,
)


def test_configurations_survive_json():
    config = replace(CONFIG, model="电影 encoder", query_prompt="query: ", precision=Precision.INT8)
    assert EncoderConfig.from_json(config.to_json()) == config


def test_configurations_of_one_prompt_stay_what_they_are():
    config = replace(CONFIG, query_prompt="film: ", passage_prompt="film: ")
    values = json.loads(config.to_json())
    assert values["prompt"] == "film: "
    assert not {"query_prompt", "passage_prompt"} & values.keys()
    assert EncoderConfig.from_json(config.to_json()) == config
    assert [config.prompt(role) for role in TextRole] == ["film: ", "film: "]


def test_a_source_is_written_where_there_is_one():
    assert "source" not in json.loads(CONFIG.to_json())
    config = replace(CONFIG, precision=Precision.INT8, source="sha256:1")
    assert EncoderConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": None}, r"e.json: .* missing required field `dim`"),
        ({"dim": "384"}, r"e.json: .* Expected `int`, got `str` - at `\$.dim`"),
        ({"dim": 0}, r"e.json: .*encoder dim: found 0, expected at least 1"),
        ({"max_tokens": 2}, r"encoder max_tokens: found 2, expected at least 3"),
        ({"pooling": "sum"}, r"Invalid enum value 'sum' - at `\$.pooling`"),
        ({"precision": "int4"}, r"Invalid enum value 'int4' - at `\$.precision`"),
        ({"colour": "red"}, r"e.json: found unknown keys \['colour'\]; .*export the encoder again"),
    ],
)
def test_a_wrong_configuration_is_explained(change, message):
    values = {**json.loads(CONFIG.to_json()), **change}
    text = json.dumps({key: value for key, value in values.items() if value is not None})
    with pytest.raises(BundleFormatError, match=message):
        EncoderConfig.from_json(text, "e.json")


@pytest.mark.parametrize("text", ["", "{", "[]", b"\xff\xfe", '{"model": "\\ud800"}'])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(BundleFormatError, match=r"e.json: expected the configuration of a text"):
        EncoderConfig.from_json(text, "e.json")
