"""How a pretrained transformers network wants its inputs read, from the files that lie beside its weights."""

from collections.abc import Mapping
from typing import Any

from confu.nn.encoders.registry import import_extra

VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
# Pillow's numbers of its filters; what our readers do not have is left to their default.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def reader_of(
    source: str, modality: str, config: Mapping[str, Any], extractor: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Settings of the reader that fits a pretrained network; None if nothing beside its weights says how to read.

    Args:
        source: a hub id or a local folder.
        modality: "text", "image", "video" or "audio".
        config: the network's.
        extractor: of audio networks, see `audio_extractor`.

    Raises:
        ValueError: if the source asks for what our readers cannot do.
    """
    if modality == "text":
        return _text_reader(source, config)
    if modality == "audio":
        return None if extractor is None else _audio_reader(extractor)
    return _image_reader(source, config, modality)


def audio_extractor(source: str) -> dict[str, Any]:
    """What a network's audio feature extractor is and is set to: plain data, from which it is made again."""
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    try:
        fields, _ = transformers.FeatureExtractionMixin.get_feature_extractor_dict(source)
    except OSError as error:
        raise ValueError(
            f"{source!r} has no preprocessor_config.json, which says how its sound is read; give `extractor`, e.g. "
            "{'feature_extractor_type': 'Wav2Vec2FeatureExtractor', 'sampling_rate': 16000, 'do_normalize': True}"
        ) from error
    kept = {name: value for name, value in fields.items() if name not in ("processor_class", "auto_map")}
    # Files from before the name was written into them are of the kind that takes plain waveforms.
    return {"feature_extractor_type": "Wav2Vec2FeatureExtractor", **kept}


def _text_reader(source: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    # Asked for first: where there is none, transformers would make an empty one by the config.
    if not any(_has(source, file) for file in VOCABULARIES):
        return None
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError(f"{source!r} has no tokenizer.json; convert its tokenizer to a fast one, or give `reader`")
    backend = tokenizer.backend_tokenizer
    # What it was cut to in training, if it says so; else its places, two of which some networks keep to themselves.
    places = config.get("max_position_embeddings") or 514
    longest = (backend.truncation or {}).get("max_length") or min(tokenizer.model_max_length, max(places - 2, 1))
    backend.no_truncation()
    backend.no_padding()
    return {
        "kind": "tokens",
        "tokenizer": backend.to_str(),
        "max_length": longest,
        "pad": tokenizer.pad_token or tokenizer.eos_token,
    }


def _audio_reader(extractor: Mapping[str, Any]) -> dict[str, Any]:
    # Each family has its own word for the longest sound: seconds, or frames of 10 ms.
    seconds = extractor.get("chunk_length") or extractor.get("max_length_s")
    if seconds is None and extractor["feature_extractor_type"] == "ASTFeatureExtractor":
        seconds = extractor.get("max_length", 1024) / 100
    return {
        "kind": "waveform",
        "rate": extractor.get("sampling_rate", 16_000),
        "seconds": None if seconds is None else float(seconds),
    }


def _image_reader(source: str, config: Mapping[str, Any], modality: str) -> dict[str, Any] | None:
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    try:
        fields, _ = transformers.ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        return None
    found = fields.get("size", config.get("image_size", 224))
    shorter = _side(source, found)
    size, stretch = shorter, isinstance(found, Mapping) and "height" in found
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


def _has(source: str, file: str) -> bool:
    hub = import_extra("transformers", "the 'transformers' encoder", "hf").utils
    return hub.cached_file(source, file, _raise_exceptions_for_missing_entries=False) is not None


def _side(source: str, size: Any) -> int:
    if isinstance(size, Mapping):
        sides = {int(side) for name, side in size.items() if name in ("height", "width", "shortest_edge")}
    else:
        sides = set(size) if isinstance(size, list | tuple) else {int(size)}
    if len(sides) != 1:
        raise ValueError(f"{source!r}: its images are {size}, and our readers make squares; give `reader`")
    return sides.pop()
