"""The models that write captions: an InstructBLIP and a language model; safetensors only, none of the hub's code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.nn.encoders.registry import import_extra

if TYPE_CHECKING:
    from PIL import Image

IMAGE_PROMPT = "Describe the bird's colors, size, and shapes."
"""The paper's (appendix D.1)."""
BEAMS = {"max_new_tokens": 64, "num_beams": 5, "repetition_penalty": 1.5}
"""The search for a caption, without chance: as in transformers' example for this model; the paper does not say."""


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn (see `SeededDraw`), and after how many tokens they are cut; the paper does not say."""

    max_new_tokens: int = 120
    temperature: float = 0.7
    top_p: float = 0.9


SAMPLING = Sampling()


@dataclass(frozen=True)
class Answer:
    """What a model wrote, without special tokens, and whether it ended by itself; False if it was cut."""

    text: str
    ended: bool


class LanguageModel:
    """A causal language model with its tokenizer. If that has a chat template, a prompt is the user's turn.

    Args:
        source: a hub id or a local folder.
        device: "cuda", "cuda:1", "cpu"...; by default the first GPU, the processor if there is none.
        sampling: how its answers are drawn.

    Raises:
        ValueError: a model that cannot be had: no such name, no access, or no safetensors weights.
        ImportError: transformers is not installed.
    """

    def __init__(self, source: str, device: str | None = None, sampling: Sampling = SAMPLING):
        transformers = import_extra("transformers", "writing captions", "hf")
        self.device = _device(device)
        self._tokenizer: Any = from_pretrained(transformers.AutoTokenizer, source, padding_side="left")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = _load_model(transformers.AutoModelForCausalLM, source, self.device)
        self.name = model_name(source, self._model)
        self._sampling = sampling
        config = self._model.generation_config
        # The draws are made by seed; what the model's own file says of sampling must not come on top of them.
        config.do_sample, config.num_beams = False, 1
        config.temperature = config.top_k = config.top_p = config.max_length = None
        ends = config.eos_token_id if config.eos_token_id is not None else self._tokenizer.eos_token_id
        self._ends = set(ends) if isinstance(ends, list | tuple) else {ends}

    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """What the model writes after each prompt; but for rounding, the same in whichever batch.

        Args:
            prompts: plain texts.
            seeds: one a prompt.

        Raises:
            ValueError: a prompt that is longer than the model can read.
        """
        chat = bool(self._tokenizer.chat_template)
        if chat:
            turns = ([{"role": "user", "content": prompt}] for prompt in prompts)
            options = {"tokenize": False, "add_generation_prompt": True}
            prompts = [self._tokenizer.apply_chat_template(turn, **options) for turn in turns]
        encoded = self._tokenizer(list(prompts), return_tensors="pt", padding=True, add_special_tokens=not chat).to(
            self.device
        )
        length, new = encoded["input_ids"].shape[1], self._sampling.max_new_tokens
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and length + new > longest:
            raise ValueError(
                f"{self.name} reads at most {longest} tokens; the longest prompt has {length} and an answer up to "
                f"{new}. Shorten the sections, or take a model that reads more"
            )
        draw = SeededDraw(seeds, self._sampling.temperature, self._sampling.top_p, self.device)
        with torch.inference_mode():
            written = self._model.generate(
                **encoded,
                max_new_tokens=new,
                logits_processor=[draw],
                pad_token_id=self._tokenizer.pad_token_id,
            )
        return [self._answer(tokens) for tokens in written[:, length:].tolist()]

    def _answer(self, tokens: list[int]) -> Answer:
        end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        return Answer(self._tokenizer.decode(tokens[:end], skip_special_tokens=True).strip(), end is not None)


class Captioner:
    """InstructBLIP with its processor; arguments and errors as for `LanguageModel`."""

    def __init__(self, source: str, device: str | None = None):
        transformers = import_extra("transformers", "captions of photos", "hf")
        self.device = _device(device)
        config = from_pretrained(transformers.AutoConfig, source)
        if config.model_type != "instructblip":
            raise ValueError(f"model {source!r}: expected an InstructBLIP; got {config.model_type!r}")
        self._processor: Any = from_pretrained(transformers.AutoProcessor, source)
        self._model = _load_model(transformers.InstructBlipForConditionalGeneration, source, self.device)
        self.name = model_name(source, self._model)

    def describe(self, pictures: Sequence["Image.Image"]) -> list[str]:
        """What is written on each picture, `""` where the model has nothing to say."""
        prompts = [IMAGE_PROMPT] * len(pictures)
        inputs = self._processor(images=list(pictures), text=prompts, return_tensors="pt", padding=True)
        inputs = inputs.to(self.device, self._model.dtype)
        with torch.inference_mode():
            written = self._model.generate(**inputs, do_sample=False, **BEAMS)
        return self._processor.batch_decode(written, skip_special_tokens=True)


class SeededDraw:
    """Makes `generate` draw each text from a generator of its own: what a prompt gets does not depend on its batch.

    To the log-probabilities of the likeliest tokens Gumbel noise is added; the greatest sum, which greedy decoding
    takes, is then a draw from their distribution.

    Args:
        seeds: one a prompt.
        temperature: above 0; below 1 likely tokens become likelier.
        top_p: tokens are drawn from the fewest that hold this share of the probability.
        device: of the scores.

    >>> scores = torch.tensor([[0.0, 3.0, 1.0]]).expand(2, -1)
    >>> draw = SeededDraw([1, 1], temperature=1.0, top_p=0.9)
    >>> first, second = draw(torch.zeros(2, 1, dtype=torch.long), scores).argmax(-1).tolist()
    >>> first == second
    True
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float, device: str | torch.device = "cpu"):
        if temperature <= 0 or not 0 < top_p <= 1:
            raise ValueError(
                f"expected temperature above 0 and top_p above 0, at most 1; got {temperature} and {top_p}"
            )
        self.temperature = temperature
        self.top_p = top_p
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(
        self, input_ids: Int[Tensor, "batch length"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        """The scores with their noise, minus infinity for tokens that are not drawn from."""
        if len(scores) != len(self._generators):
            raise ValueError(f"seeds: expected one a prompt, {len(scores)}; got {len(self._generators)}")
        logits = scores.float() / self.temperature
        probabilities, order = logits.softmax(-1).sort(-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities  # of the likelier ones: the first is always kept
        left_out = (before >= self.top_p).scatter(-1, order, before >= self.top_p)
        noise = torch.empty_like(logits)
        for row, generator in zip(noise, self._generators):
            row.exponential_(generator=generator)
        tiny = torch.finfo(noise.dtype).tiny  # the logarithm of a zero would win against everything
        return (logits - noise.clamp_min(tiny).log()).masked_fill(left_out, -torch.inf)


def from_pretrained(family: Any, source: str, **options: Any) -> Any:
    """`from_pretrained` of a class of transformers, without the hub's code.

    Raises:
        ValueError: there is no such model, no access to it, or it has no safetensors weights.
    """
    try:
        return family.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model {source!r}: cannot be loaded ({str(error).strip().splitlines()[0]}). Give a hub id or a folder "
            "with safetensors weights; some models, Gemma's among them, want their licence accepted on the hub and a "
            "login"
        ) from error


def model_name(source: str, model: Any = None) -> str:
    """How a model is named in what is published: hub id, and revision if it is loaded; a local folder by its last part.

    >>> model_name("google/gemma-2-2b-it")
    'google/gemma-2-2b-it'
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser().resolve().name
    revision = None if model is None else getattr(model.config, "_commit_hash", None)
    return f"{source}@{revision[:12]}" if revision else source


def _device(device: str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _load_model(family: Any, source: str, device: torch.device) -> Any:
    """A model for use; bfloat16 on a GPU, where float32 would need twice the memory."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model, report = from_pretrained(family, source, use_safetensors=True, dtype=dtype, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):  # they would be random
        raise ValueError(f"model {source!r}: lacks {len(missing)} of its weights, e.g. {', '.join(missing[:3])}")
    return model.to(device).eval()
