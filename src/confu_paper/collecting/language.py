"""A language model from the hub that answers prompts: safetensors only, none of the hub's code, draws by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from confu.nn.encoders.registry import import_extra
from confu_paper.collecting.seeds import SeededDraw


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn; the paper does not say how its were.

    Attributes:
        max_new_tokens: an answer is cut there.
        temperature: see `SeededDraw`.
        top_p: likewise.
    """

    max_new_tokens: int = 120
    temperature: float = 0.7
    top_p: float = 0.9


SAMPLING = Sampling()


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        text: without special tokens.
        ended: whether it came to an end by itself; False if it was cut.
    """

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
        self.device = chosen_device(device)
        self._tokenizer: Any = loaded(transformers.AutoTokenizer, source, padding_side="left")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = loaded_model(transformers.AutoModelForCausalLM, source, self.device)
        self.name = name_of(source, self._model)
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
        encoded = self._tokenizer(
            [self._turn(prompt) for prompt in prompts], return_tensors="pt", padding=True,
            add_special_tokens=not self._tokenizer.chat_template,
        ).to(self.device)  # fmt: skip
        read = encoded["input_ids"].shape[1]
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and read + self._sampling.max_new_tokens > longest:
            raise ValueError(
                f"{self.name} reads at most {longest} tokens; the longest prompt has {read} and an answer up to "
                f"{self._sampling.max_new_tokens}. Shorten the sections, or take a model that reads more"
            )
        draw = SeededDraw(seeds, self._sampling.temperature, self._sampling.top_p, self.device)
        with torch.inference_mode():
            written = self._model.generate(
                **encoded, max_new_tokens=self._sampling.max_new_tokens, logits_processor=[draw],
                pad_token_id=self._tokenizer.pad_token_id,
            )  # fmt: skip
        return [self._answer(tokens) for tokens in written[:, read:].tolist()]

    def _turn(self, prompt: str) -> str:
        if not self._tokenizer.chat_template:
            return prompt
        turn = [{"role": "user", "content": prompt}]
        return self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)

    def _answer(self, tokens: list[int]) -> Answer:
        end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        return Answer(self._tokenizer.decode(tokens[:end], skip_special_tokens=True).strip(), end is not None)


def chosen_device(device: str | None) -> torch.device:
    """The device of this name; the first GPU, or the processor, if none is named."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def loaded(family: Any, source: str, **options: Any) -> Any:
    """`from_pretrained` of a class of transformers, without the hub's code, with a message that says what to do.

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


def loaded_model(family: Any, source: str, device: torch.device) -> Any:
    """A model for use, from safetensors only; bfloat16 on a GPU, where float32 would need twice the memory.

    Raises:
        ValueError: as `loaded`; or some of its weights are not there, and would be random.
    """
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    model, report = loaded(family, source, use_safetensors=True, dtype=dtype, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"model {source!r}: lacks {len(missing)} of its weights, e.g. {', '.join(missing[:3])}")
    return model.to(device).eval()


def name_of(source: str, model: Any = None) -> str:
    """How a model is named in what is published: hub id, and revision if it is loaded; a local folder by its last part.

    >>> name_of("google/gemma-2-2b-it")
    'google/gemma-2-2b-it'
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser().resolve().name
    revision = None if model is None else getattr(model.config, "_commit_hash", None)
    return f"{source}@{revision[:12]}" if revision else source
