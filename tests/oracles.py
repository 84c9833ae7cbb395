"""Slow versions of what confu computes, written as loops from the definitions."""

import math


def ranks_oracle(queries, targets, tolerance=1e-6):
    """For each query, how many targets score better than its own and how many tie, one dot product at a time."""
    queries, targets = queries.double().tolist(), targets.double().tolist()

    def dot(left, right):
        return math.fsum(a * b for a, b in zip(left, right))

    better, tied = [], []
    for i, query in enumerate(queries):
        own = dot(query, targets[i])
        scores = [dot(query, target) for target in targets]
        better.append(sum(score > own + tolerance for score in scores))
        tied.append(sum(abs(score - own) <= tolerance for score in scores))
    return better, tied


def recall_at_k_oracle(better, tied, k):
    """Count, for each place that the own target can take among those that tie, whether it is among the first k."""
    total = 0.0
    for before, equal in zip(better, tied):
        places = range(before + 1, before + equal + 1)
        total += sum(place <= k for place in places) / equal
    return total / len(better)


def zero_shot_oracle(queries, prompts, prompt_classes):
    """The class of the nearest normalised mean prompt, one query and one class at a time."""
    queries, prompts, prompt_classes = queries.tolist(), prompts.tolist(), prompt_classes.tolist()
    predictions = []
    for query in queries:
        scores = []
        for one in range(max(prompt_classes) + 1):
            mine = [prompt for prompt, of in zip(prompts, prompt_classes) if of == one]
            mean = [sum(numbers) / len(mine) for numbers in zip(*mine)]
            length = math.sqrt(sum(number**2 for number in mean))
            scores.append(sum(a * b / length for a, b in zip(query, mean)))
        predictions.append(max(range(len(scores)), key=scores.__getitem__))
    return predictions
