"""ResNet and BERT through transformers, which is imported when one is built and not before."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from confu.nn.encoders.conv import as_images
from confu.nn.encoders.registry import import_extra
from confu.nn.layers import check_heads, check_ids, check_mask, check_positive

RESNETS: dict[int, dict[str, Any]] = {
    18: {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]},
    50: {"layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]},
}
# What decides a network's shape and its output; the rest of a config is of the library, and changes with its version.
RESNET_FIELDS = (
    *("num_channels", "embedding_size", "hidden_sizes", "depths", "layer_type", "hidden_act"),
    *("downsample_in_first_stage", "downsample_in_bottleneck"),
)
BERT_FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size"),
    *("layer_norm_eps", "pad_token_id", "initializer_range"),
)


class ResNetEncoder(nn.Module):
    """A ResNet's pooled features and a Linear.

    Built in one of three ways: by `depth`, with random weights; `pretrained`, from a hub id or a local folder; or from
    a `config`, as `settings` holds it, so that a trained encoder is rebuilt with no look at the hub.

    A pretrained network for colour images takes `in_channels=1` by the sum of its first filters over colours: a grey
    image gives what it gave as three equal channels. (The paper draws that layer anew.)

        ResNetEncoder(depth=18)(torch.zeros(3, 1, 112, 112)).shape == (3, 256)

    Args:
        depth: 18 (the default) or 50.
        in_channels: 1 (the default) for grey images and spectrograms, 3 for colour; pretrained, as it was trained.
        out_dim: size of the features.
        pretrained: a hub id or a local folder, with safetensors weights of a ResNet.
        config: fields of transformers' ResNetConfig.

    Reference: A.1, A.3 of the ConFu paper; He et al. 2016.
    """

    def __init__(
        self,
        depth: int | None = None,
        in_channels: int | None = None,
        out_dim: int = 256,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_positive(out_dim=out_dim)
        transformers = import_extra("transformers", "the 'resnet' encoder", "hf")
        _only_one(depth=depth, pretrained=pretrained, config=config)
        if config is not None and in_channels is not None:
            raise ValueError("in_channels is part of config, as num_channels; give one of them")
        if pretrained is not None:
            self.model = _pretrained(transformers, "ResNet", pretrained)
            if in_channels is not None:
                _set_channels(self.model, in_channels)
        else:
            if config is None:
                depth = 18 if depth is None else depth
                if depth not in RESNETS:
                    raise ValueError(f"depth must be one of {', '.join(map(str, RESNETS))}; got {depth}")
                config = {"num_channels": 1 if in_channels is None else in_channels, **RESNETS[depth]}
            check_positive(in_channels=config.get("num_channels", 3))
            self.model = transformers.ResNetModel(transformers.ResNetConfig(**config))
        fields = {name: getattr(self.model.config, name) for name in RESNET_FIELDS}
        self.settings: dict[str, Any] = {"kind": "resnet", "out_dim": out_dim, "config": fields}
        self.in_channels = int(self.model.config.num_channels)
        self.out_dim = out_dim
        self.output = nn.Linear(self.model.config.hidden_sizes[-1], out_dim)

    def forward(
        self, values: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch height width"]
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each image; the axis of channels may be left out if there is one channel."""
        return self.output(self.model(as_images(values, self.in_channels)).pooler_output.flatten(1))


class BertEncoder(nn.Module):
    """The first token's features of a BERT, and a Linear.

    Built by its sizes, with random weights, `pretrained` or from a `config`, like `ResNetEncoder`. The default sizes
    are MiniLM-L6's, as in the paper's released code.

        BertEncoder()(input_ids=torch.tensor([[101, 1037, 102]])).shape == (1, 256)

    Args:
        vocab_size: number of tokens; None is 30522, BERT's.
        hidden_size: size of a token's vector; None is 384.
        layers: None is 6.
        heads: attention heads, divides `hidden_size`; None is 12.
        out_dim: size of the features.
        pretrained: a hub id or a local folder, with safetensors weights of a BERT.
        config: fields of transformers' BertConfig.

    Reference: A.3 of the ConFu paper; Devlin et al. 2019.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        hidden_size: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        out_dim: int = 256,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_positive(out_dim=out_dim)
        transformers = import_extra("transformers", "the 'bert' encoder", "hf")
        sizes = {"vocab_size": vocab_size, "hidden_size": hidden_size, "layers": layers, "heads": heads}
        for name, size in sizes.items():
            _only_one(**{name: size}, pretrained=pretrained, config=config)
        # No pooler: it would be parameters that nothing reads, so that nothing trains them.
        if pretrained is not None:
            self.model = _pretrained(transformers, "Bert", pretrained, add_pooling_layer=False)
        else:
            if config is None:
                hidden_size = 384 if hidden_size is None else hidden_size
                config = {
                    "vocab_size": 30522 if vocab_size is None else vocab_size,
                    "hidden_size": hidden_size,
                    "num_hidden_layers": 6 if layers is None else layers,
                    "num_attention_heads": 12 if heads is None else heads,
                    "intermediate_size": 4 * hidden_size,
                }
                check_positive(vocab_size=config["vocab_size"], layers=config["num_hidden_layers"])
                check_heads(hidden_size, config["num_attention_heads"])
            self.model = transformers.BertModel(transformers.BertConfig(**config), add_pooling_layer=False)
        fields = {name: getattr(self.model.config, name) for name in BERT_FIELDS}
        self.settings: dict[str, Any] = {"kind": "bert", "out_dim": out_dim, "config": fields}
        self.max_length = int(self.model.config.max_position_embeddings)
        self.out_dim = out_dim
        self.output = nn.Linear(self.model.config.hidden_size, out_dim)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"] | None = None,
        token_type_ids: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each text; `attention_mask` is 0 or False at padding, None if there is none."""
        check_ids(input_ids, self.model.config.vocab_size, self.max_length)
        if not len(input_ids):  # attention fails on no rows
            return self.output(self.output.weight.new_zeros(0, self.output.in_features))
        if attention_mask is not None:
            attention_mask = check_mask(attention_mask, input_ids.shape, "attention_mask").long()
        steps = self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        return self.output(steps[:, 0])


def _only_one(**choices: Any) -> None:
    given = [name for name, choice in choices.items() if choice is not None]
    if len(given) > 1:
        raise ValueError(
            f"give one of {', '.join(choices)}, as each decides the network's sizes; got {' and '.join(given)}"
        )


def _pretrained(transformers: Any, family: str, source: str, **options: Any) -> Any:
    config = transformers.AutoConfig.from_pretrained(source)
    if config.model_type != family.lower():
        raise ValueError(f"pretrained must be a {family.lower()} model; {source!r} is a {config.model_type} model")
    # float32 whatever the file holds; never a pickled file; and from_pretrained hands the model over in eval mode.
    model = getattr(transformers, f"{family}Model")
    return model.from_pretrained(source, dtype=torch.float32, use_safetensors=True, **options).train()


def _set_channels(model: Any, in_channels: int) -> None:
    before = int(model.config.num_channels)
    if in_channels == before:
        return
    if in_channels != 1:
        raise ValueError(f"in_channels must be {before}, as pretrained, or 1 for their sum; got {in_channels}")
    first = model.embedder.embedder.convolution
    first.weight = nn.Parameter(first.weight.detach().sum(dim=1, keepdim=True))
    first.in_channels = model.config.num_channels = model.embedder.num_channels = 1
