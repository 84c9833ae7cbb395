"""Labels of the user's own, as the prompts that stand for them."""

import math
from collections.abc import Mapping, Sequence

from confu.search.question import BadQuestion

MAX_LABELS = 1000


def prompts_of(labels: Sequence[str] | Mapping[str, Sequence[str]], template: str = "{}") -> dict[str, tuple[str, ...]]:
    """Label -> its prompts.

    Args:
        labels: names, or name -> prompts, at least one each.
        template: what a prompt is made of; `{}` stands for the name, or for each prompt.

    Raises:
        BadQuestion: for no label, one that is empty or comes twice, too many, or a template without `{}`.

    >>> prompts_of(["dog", "cat"], "a photo of a {}")
    {'dog': ('a photo of a dog',), 'cat': ('a photo of a cat',)}
    """
    if not isinstance(template, str) or "{}" not in template:
        raise BadQuestion(
            f"template must hold {{}} where the label goes, e.g. 'a photo of a {{}}'; got {str(template)[:80]!r}",
            "template", "bad_template",
        )  # fmt: skip
    if isinstance(labels, Mapping):
        found = dict(labels)
    elif isinstance(labels, Sequence) and not isinstance(labels, str):
        if not all(isinstance(name, str) for name in labels):
            raise _bad("labels must be texts")
        found = {name: (name,) for name in labels}
        if len(found) != len(labels):
            raise _bad("labels must differ; one is there twice")
    else:
        raise _bad(f"labels must be a list of names, or name -> list of prompts; got {type(labels).__name__}")
    if not found or sum(map(_number, found.values())) > MAX_LABELS:
        raise _bad(f"labels must be 1 to {MAX_LABELS} with their prompts; got {len(found)}")
    for name, prompts in found.items():
        if not isinstance(prompts, list | tuple) or not prompts or not all(_is_text(one) for one in (name, *prompts)):
            raise _bad(f"label {str(name)[:80]!r} must have one or more prompts, texts that are not empty")
    return {name: tuple(template.replace("{}", prompt) for prompt in prompts) for name, prompts in found.items()}


def probabilities(cosines: Sequence[float], temperature: float) -> list[float]:
    """Softmax of cosines / temperature.

    >>> probabilities([0.5, 0.5], 0.07)
    [0.5, 0.5]
    """
    highest = max(cosines)
    powers = [math.exp((one - highest) / temperature) for one in cosines]
    return [one / sum(powers) for one in powers]


def _number(prompts: object) -> int:
    return len(prompts) if isinstance(prompts, list | tuple) else 1


def _is_text(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _bad(message: str) -> BadQuestion:
    return BadQuestion(message, "labels", "bad_labels")
