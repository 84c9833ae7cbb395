"""What lies in a folder of transformers or on the hub: a network's config, its weights, how its inputs are read.

Only safetensors weights are read, and no code but the library's own is run. `source` is a hub id or a local folder.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from confu.nn.encoders.registry import import_extra

PARTS = {"text": "text_config", "image": "vision_config", "audio": "audio_config"}
VOCABULARIES = ["tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model"]
VOCABULARIES += ["sentencepiece.bpe.model"]
# Not the network's shape, or worse: the name of an implementation may be that of code on the hub.
_LEFT_OUT = {"transformers_version", "_name_or_path", "architectures", "id2label", "label2id", "auto_map"}
_LEFT_OUT |= {"dtype", "torch_dtype", "use_kernels"}
# Pillow's numbers of its filters; what our readers do not have is left to their default.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def located(source: str) -> str:
    """A hub id as it is; a folder ("./folder", "../folder", an absolute one, "~/folder") if it is there."""
    if not source.startswith((".", "/", "~")):
        return source
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"pretrained: {folder} is no folder with a config.json, as save_pretrained of transformers writes"
        )
    return str(folder)


def pretrained_config(source: str, modality: str | None) -> dict[str, Any]:
    """The config of a pretrained network, or of the part of it that reads a modality."""
    transformers = _transformers()
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
    """A network from its config, with new weights or those of `source`."""
    transformers = _transformers()
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
        else _load_weights(family, config, source, options)
    )
    kept = plain_config(config.to_dict())
    return network.get_encoder() if config.is_encoder_decoder else network, kept


def _load_weights(family: Any, config: Any, source: str, options: dict[str, Any]) -> nn.Module:
    # float32 whatever the file holds; never a pickled file; never code from the hub.
    options = {**options, "dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
    with _quiet():
        network, report = family.from_pretrained(source, config=config, output_loading_info=True, **options)
    missing = sorted(report["missing_keys"])
    if not missing:
        return network
    # Some families cannot load a tower alone: load the whole network and take the tower's weights.
    transformers = _transformers()
    fields, _ = transformers.PretrainedConfig.get_config_dict(source)
    if fields.get("model_type") != config.model_type:
        whole_config = _config(plain_config(fields), source)
        whole = _load_weights(transformers.MODEL_MAPPING[type(whole_config)], whole_config, source, {})
        for part in PARTS.values():
            if isinstance(getattr(whole_config, part, None), type(config)):
                weights = getattr(whole, part.replace("_config", "_model")).state_dict()
                network.load_state_dict({name: weights[name] for name in network.state_dict()})
                return network
    raise ValueError(
        f"{source!r} lacks {len(missing)} of the weights of a {family.__name__}, e.g. {', '.join(missing[:3])}; "
        "they would be random. Take another pool, or another network"
    )


def _config(fields: Mapping[str, Any], source: str) -> Any:
    transformers = _transformers()
    model_type = fields.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"{source!r} is a network of the type {model_type!r}, which transformers {transformers.__version__} does "
            "not hold; code that comes with a network is never run"
        )
    return transformers.CONFIG_MAPPING[model_type].from_dict({k: v for k, v in fields.items() if k != "model_type"})


def _transformers() -> Any:
    return import_extra("transformers", "the 'transformers' encoder", "hf")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no table of weights that belong to a head: missing weights are an error of our own."""
    logging = _transformers().utils.logging
    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()


def audio_extractor(source: str) -> dict[str, Any]:
    """The type and settings of a network's audio feature extractor, from which `build_extractor` makes it again."""
    try:
        fields, _ = _transformers().FeatureExtractionMixin.get_feature_extractor_dict(source)
    except OSError as error:
        raise ValueError(
            f"{source!r} has no preprocessor_config.json, which says how its sound is read; give `extractor`, e.g. "
            "{'feature_extractor_type': 'Wav2Vec2FeatureExtractor', 'sampling_rate': 16000, 'do_normalize': True}"
        ) from error
    kept = {name: value for name, value in fields.items() if name not in ("processor_class", "auto_map")}
    # Files from before the name was written into them are of the kind that takes plain waveforms.
    return {"feature_extractor_type": "Wav2Vec2FeatureExtractor", **kept}


def build_extractor(kind: str, settings: Mapping[str, Any]) -> Any:
    """An audio feature extractor of transformers by the name of its class."""
    transformers = _transformers()
    family = getattr(transformers, kind, None) if kind.endswith("FeatureExtractor") else None
    if not isinstance(family, type) or not issubclass(family, transformers.SequenceFeatureExtractor):
        raise ValueError(
            f"extractor: {kind!r} is no audio feature extractor of transformers {transformers.__version__}"
        )
    return family(**settings)


def reader_of(
    source: str, modality: str, config: Mapping[str, Any], extractor: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Settings of the reader that fits a pretrained network; None if nothing beside its weights says how to read."""
    if modality == "text":
        return _text_reader(source, config)
    if modality != "audio":
        return _image_reader(source, config, modality)
    if extractor is None:
        return None
    # Each family has its own word for the longest sound: seconds, or frames of 10 ms.
    seconds = extractor.get("chunk_length") or extractor.get("max_length_s")
    if seconds is None and extractor["feature_extractor_type"] == "ASTFeatureExtractor":
        seconds = extractor.get("max_length", 1024) / 100
    rate = extractor.get("sampling_rate", 16_000)
    return {"kind": "waveform", "rate": rate, "seconds": None if seconds is None else float(seconds)}


def _text_reader(source: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    transformers = _transformers()
    find = transformers.utils.cached_file
    # Looked for first: where there is none, transformers would make an empty one by the config.
    if all(find(source, file, _raise_exceptions_for_missing_entries=False) is None for file in VOCABULARIES):
        return None
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError(f"{source!r} has no tokenizer.json; convert its tokenizer to a fast one, or give `reader`")
    backend = tokenizer.backend_tokenizer
    # What it was cut to in training, if it says so; else its positions, two of which some networks keep to themselves.
    positions = config.get("max_position_embeddings") or 514
    longest = (backend.truncation or {}).get("max_length") or min(tokenizer.model_max_length, max(positions - 2, 1))
    backend.no_truncation()
    backend.no_padding()
    pad = tokenizer.pad_token or tokenizer.eos_token
    return {"kind": "tokens", "tokenizer": backend.to_str(), "max_length": longest, "pad": pad}


def _image_reader(source: str, config: Mapping[str, Any], modality: str) -> dict[str, Any] | None:
    try:
        fields, _ = _transformers().ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        return None
    resized = fields.get("size", config.get("image_size", 224))
    shorter = _side(source, resized)
    size, stretch = shorter, isinstance(resized, Mapping) and "height" in resized
    if fields.get("do_center_crop") and fields.get("crop_size") is not None:
        size, stretch = _side(source, fields["crop_size"]), False
    elif "crop_pct" in fields and shorter < 384:  # ConvNeXt: scaled to more than is kept; from 384 on stretched
        shorter, stretch = round(shorter / fields["crop_pct"]), False
    channels = config.get("num_channels", 3)
    normalised = fields.get("do_normalize", True)
    return {
        "kind": "image" if modality == "image" else "video",
        **({} if modality == "image" else {"frames": config.get("num_frames", 8)}),
        "size": size,
        "channels": channels,
        "mean": list(fields.get("image_mean") or [0.5] * channels) if normalised else [0.0] * channels,
        "std": list(fields.get("image_std") or [0.5] * channels) if normalised else [1.0] * channels,
        "resize": "stretch" if stretch else "crop",
        "shorter": None if stretch or shorter <= size else shorter,
        "interpolation": _FILTERS.get(fields.get("resample", 2), "bilinear"),
    }


def _side(source: str, size: Any) -> int:
    if isinstance(size, Mapping):
        sides = {int(side) for name, side in size.items() if name in ("height", "width", "shortest_edge")}
    else:
        sides = set(size) if isinstance(size, list | tuple) else {int(size)}
    if len(sides) != 1:
        raise ValueError(f"{source!r}: its images are {size}, and our readers make squares; give `reader`")
    return sides.pop()
