"""A transformers model from a hub id, a folder or a config: safetensors weights only, no code but the library's own."""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from confu.nn.encoders.registry import import_extra

READS = {"input_ids": "text", "pixel_values": "image", "input_values": "audio", "input_features": "audio"}
PARTS = {"text": "text_config", "image": "vision_config", "audio": "audio_config"}
# Not the network's shape, or worse: the name of an implementation may be that of code on the hub.
_LEFT_OUT = {"transformers_version", "_name_or_path", "architectures", "id2label", "label2id", "dtype", "torch_dtype",
             "auto_map", "use_kernels"}  # fmt: skip


def located(source: str) -> str:
    """A hub id as it is; a folder ("./folder", "../folder", an absolute one, "~/folder") if it is there.

    >>> located("org/model")
    'org/model'

    Raises:
        ValueError: if there is no such folder.
    """
    if not source.startswith((".", "/", "~")):
        return source
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"pretrained: {folder} is no folder with a config.json, as save_pretrained of transformers writes"
        )
    return str(folder)


def pretrained_config(source: str, modality: str | None) -> dict[str, Any]:
    """The config of a pretrained network, or of the part of it that reads a modality.

    Args:
        source: a hub id or a local folder.
        modality: "text", "image", "audio" or "video"; needed for a network of several towers, e.g. CLIP.

    Raises:
        ValueError: for a network that transformers does not know, quantised weights, an adapter alone, or several
            towers and no modality.
    """
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    fields, _ = transformers.PretrainedConfig.get_config_dict(source)
    if transformers.utils.find_adapter_config_file(source) is not None:
        raise ValueError(f"{source!r} holds an adapter; merge it into its network, save that, and name the new folder")
    if "quantization_config" in fields:
        raise ValueError(f"{source!r} has quantised weights, which cannot be trained on; name the original network")
    return part_of(plain_config(fields), modality, source)


def plain_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that decide a network, as JSON holds them."""
    return {
        name: plain_config(value) if isinstance(value, Mapping) else json.loads(json.dumps(value))
        for name, value in fields.items()
        if name not in _LEFT_OUT and not name.strip("_").startswith(("attn_implementation", "experts_implementation"))
    }


def part_of(fields: dict[str, Any], modality: str | None, source: str) -> dict[str, Any]:
    """Of a network of several towers the config of the one that reads a modality; any other as it is."""
    config = _config(fields, source)
    towers = [name for name, part in PARTS.items() if getattr(config, part, None) is not None]
    if len(towers) < 2:
        return fields
    if modality not in towers:
        raise ValueError(
            f"{source!r} ({fields['model_type']}) has several towers; modality must be one of "
            f"{', '.join(map(repr, towers))}, got {modality!r}"
        )
    return plain_config(getattr(config, PARTS[modality]).to_dict())


def build_network(
    fields: dict[str, Any], source: str | None = None, pooler: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """A network from its config, with new weights or those of `source`.

    Args:
        fields: as `pretrained_config` gives them.
        source: a hub id or a local folder with safetensors weights; None draws new ones.
        pooler: whether its pooled output is wanted; where it is not and the network can do without, there is none.

    Returns:
        The network (of encoder-decoders the encoder), float32, and the config that makes it again.

    Raises:
        ValueError: if the source lacks some of the weights.
    """
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    name = source or "config"
    config = _config(fields, name)
    # Made for long sounds; with short ones it fails. And layers that are left out at random have no gradient.
    for field, value in (("apply_spec_augment", False), ("layerdrop", 0.0)):
        if hasattr(config, field):
            setattr(config, field, value)
    family = transformers.MODEL_MAPPING.get(type(config), None)
    if family is None:  # the towers of some networks are models of their own that stand in no list
        family = getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", None)
    if family is None or isinstance(family, tuple):
        raise ValueError(f"{name!r} is a {fields['model_type']} network, which has no single model in transformers")
    can_do_without = "add_pooling_layer" in inspect.signature(family).parameters
    options = {"add_pooling_layer": False} if can_do_without and not pooler else {}
    network: Any = (
        family._from_config(config, dtype=torch.float32, **options)
        if source is None
        else _loaded(family, config, source, options)
    )
    kept = plain_config(config.to_dict())
    if config.is_encoder_decoder:
        network = network.get_encoder()
    return network, kept


def _loaded(family: Any, config: Any, source: str, options: dict[str, Any]) -> nn.Module:
    with _quiet():
        # float32 whatever the file holds; never a pickled file; never code from the hub.
        network, report = family.from_pretrained(
            source, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, **options,
        )  # fmt: skip
    missing = sorted(report["missing_keys"])
    if missing and (whole := _whole(source, config)) is not None:
        weights = whole.state_dict()
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    elif missing:
        raise ValueError(
            f"{source!r} lacks {len(missing)} of the weights of a {family.__name__}, e.g. {', '.join(missing[:3])}; "
            "they would be random. Take another pool, or another network"
        )
    return network


def _whole(source: str, config: Any) -> nn.Module | None:
    """The tower with this config of a network of several, for families that cannot load a tower alone; else None."""
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    fields, _ = transformers.PretrainedConfig.get_config_dict(source)
    if fields.get("model_type") == config.model_type:
        return None
    whole = _config(plain_config(fields), source)
    network = _loaded(transformers.MODEL_MAPPING[type(whole)], whole, source, {})
    for part in PARTS.values():
        if isinstance(getattr(whole, part, None), type(config)):
            return getattr(network, part.replace("_config", "_model"))
    return None


def _config(fields: Mapping[str, Any], source: str) -> Any:
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    model_type = fields.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"{source!r} is a network of the type {model_type!r}, which transformers {transformers.__version__} does "
            "not hold; code that comes with a network is never run"
        )
    return transformers.CONFIG_MAPPING[model_type].from_dict({k: v for k, v in fields.items() if k != "model_type"})


@contextmanager
def _quiet() -> Iterator[None]:
    """No bar and no table of weights that belong to a head: what matters of it is an error here."""
    logging = import_extra("transformers", "the 'transformers' encoder", "hf").utils.logging
    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()
