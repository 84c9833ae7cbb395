"""What a language model wrote, made one line, and what is wrong with it."""

import re

_LEAD = re.compile(r"^(?:final |combined |image |species )?(?:caption|summary|answer)\s*:\s*", re.IGNORECASE)
_QUOTES = "\"'“”‘’«»*_`"
_LEAST_DISTINCT = 1 / 3  # of the words; a text that goes in circles has fewer


def cleaned(text: str) -> str:
    """The caption in an answer: its first paragraph, without marks, quotes and the words that announce it.

    >>> cleaned('Here is a concise caption:\\n\\n**Caption:** "A black bird,  singing."\\n\\nI hope this helps!')
    'A black bird, singing.'
    """
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    if not paragraphs:
        return ""
    if len(paragraphs) > 1 and paragraphs[0].endswith(":"):
        paragraphs = paragraphs[1:]
    line = paragraphs[0].replace("**", "").lstrip("#>- ")
    before = None
    while line != before:  # a quote may stand around the announcement, or within it
        before = line
        line = _LEAD.sub("", line.strip()).strip()
        if len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
            line = line[1:-1]
    return line


def what_is_wrong(text: str, ended: bool, fewest: int, most: int) -> str | None:
    """Why a cleaned text is no caption, in words that can be counted; None if it is one.

    Args:
        text: one line.
        ended: whether the model ended it by itself.
        fewest: words.
        most: words.

    >>> what_is_wrong("", True, 4, 40), what_is_wrong("A black bird sings.", True, 4, 40)
    ('empty', None)
    """
    words = re.findall(r"\w+", text.lower())
    if not words:
        return "empty"
    if not ended:
        return "no end"
    if len(words) < fewest:
        return "too short"
    if len(words) > most:
        return "too long"
    if len(words) >= 6 and len(set(words)) < _LEAST_DISTINCT * len(words):
        return "repeats itself"
    return None


def num_words(text: str) -> int:
    """Words between blanks, as the prompts count them.

    >>> num_words("A black-capped bird.")
    3
    """
    return len(text.split())
