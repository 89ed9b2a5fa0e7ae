"""What a config.json leaves out means here what it means in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING, AutoConfig

from addnorm import UserError
from addnorm.interop import hugging_face
from addnorm.interop.configs import read_config
from addnorm.interop.families import FAMILIES, REQUIRED

SIZES = {
    "bert": {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 8, "intermediate_size": 40},
    "gpt2": {"n_embd": 24, "n_layer": 1, "n_head": 8, "n_positions": 19},
    "llama": {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 8, "intermediate_size": 40},
}
SIZES["mistral"] = SIZES["llama"] | {"sliding_window": None}
MORE = {"vocab_size": 23, "max_position_embeddings": 19}
ROTARY = {"rope_theta": lambda config: config.rope_parameters["rope_theta"]}


def written(folder: Path, family: str, *, without: str = "", **changes: object) -> Path:
    config = {"model_type": family, **MORE, **SIZES[family], **changes}
    config.pop(without, None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def theirs_of(folder: Path, field: str) -> Any:
    config = AutoConfig.from_pretrained(folder)
    return ROTARY.get(field, lambda config: getattr(config, field))(config)


@pytest.mark.parametrize(
    ("family", "setting"),
    [
        pytest.param(family.model_type, setting, id=f"{family.model_type}-{setting.theirs}")
        for family in FAMILIES.values()
        for setting in family.settings
        if setting.default is not REQUIRED and setting.ours != "eps"
    ],
)
def test_a_missing_choice_means_the_default_of_transformers(family, setting, tmp_path):
    found = read_config(written(tmp_path, family, without=setting.theirs)).shape[setting.ours]
    expected = theirs_of(tmp_path, setting.theirs)
    if setting.ours == "num_kv_heads" and found is None:
        found = SIZES[family]["num_attention_heads"]
    assert found == dict(setting.values).get(expected, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_eps_is_that_of_transformers(family, tmp_path):
    name = next(setting.theirs for setting in FAMILIES[family].settings if setting.ours == "eps")
    eps = theirs_of(written(tmp_path, family), name)
    scheme = read_config(tmp_path).scheme
    assert f"eps={eps}" in scheme or (eps == 1e-5 and "eps" not in scheme)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_field_that_we_have_no_choice_about_means_what_it_means_to_transformers(family, tmp_path):
    bare, kind = CONFIG_MAPPING[family](), FAMILIES[family]
    for name, allowed in kind.theirs.items():
        assert kind.missing.get(name, allowed[0]) == getattr(bare, name, allowed[0])


def test_a_mistral_that_says_nothing_of_its_window_has_one(tmp_path):
    written(tmp_path, "mistral", without="sliding_window")
    assert theirs_of(tmp_path, "sliding_window") == 4096
    with pytest.raises(UserError, match="sliding_window=4096, which a missing field means, of a mistral is not supp"):
        hugging_face.read_shape(tmp_path)


def test_of_two_accounts_of_the_rotary_positions_the_one_that_transformers_takes_is_read(tmp_path):
    plain, scaled = {"rope_type": "default", "rope_theta": 1e4}, {"rope_type": "linear", "factor": 2.0}
    written(tmp_path, "llama", rope_parameters=plain, rope_scaling=scaled)
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters["rope_type"] == "linear"
    with pytest.raises(UserError, match="rope_type='linear' of a llama"):
        hugging_face.read_shape(tmp_path)


def test_a_missing_width_is_named_where_the_width_of_the_heads_is_given(tmp_path):
    written(tmp_path, "llama", without="hidden_size", head_dim=3)
    with pytest.raises(UserError, match="has no hidden_size, which a llama must have"):
        hugging_face.read_shape(tmp_path)
