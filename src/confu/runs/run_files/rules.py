"""What must go together in a run file; each rule looks at one thing and yields what is wrong with it."""

from collections.abc import Callable, Iterator

from torch import nn

from confu.checks import check_known
from confu.methods import METHODS
from confu.plan import Plan, Subset, confu_plan, disjoint_plan, pairwise_plan, target_plan
from confu.runs.run_files.run_file import RunFile

Found = Iterator[tuple[str, str]]


def run_plan(run: RunFile) -> Plan:
    """The plan of a run.

    Without a kind it is ConFu's for three modalities, all disjoint subsets of at most two for more, and the pairs for
    two and for methods without fusion.

    Raises:
        ValueError: for terms or a kind that do not fit the modalities.
    """
    names, plan = list(run.modalities), run.plan
    if plan.terms is not None:
        return Plan.parse(plan.terms, modalities=names)
    fused = METHODS[run.method].fused and len(names) > 2
    kind = plan.kind or ("pairwise" if not fused else "confu" if len(names) == 3 else "disjoint")
    if kind == "confu":
        return confu_plan(names, 0.5 if plan.fused_weight is None else plan.fused_weight)
    if kind == "disjoint":
        order = plan.max_order or (2 if plan.kind is None else None)
        return disjoint_plan(names, max_order=order, fused_weight=plan.fused_weight)
    return pairwise_plan(names) if kind == "pairwise" else target_plan(names, plan.target or names[-1])


def contradictions(run: RunFile) -> list[tuple[str, str]]:
    """What does not go together in a run file: (path of the setting, what is wrong), all of it."""
    return [(path, what) for rule in RULES for path, what in rule(run)]


def check_run(run: RunFile) -> None:
    """Check that the parts of a run file go together.

    Raises:
        ValueError: with everything that does not.
    """
    if found := contradictions(run):
        raise ValueError("this run cannot be:\n" + "\n".join(f"  {path}: {what}" for path, what in found))


def _names(run: RunFile) -> Found:
    if len(run.modalities) < 2:
        yield "modalities", f"at least two are aligned; got {', '.join(run.modalities) or 'none'}"
    for name in run.modalities:
        try:
            Subset(name)
        except ValueError as error:
            yield f"modalities.{name}", str(error)
        if hasattr(nn.ModuleDict(), name):
            yield f"modalities.{name}", f"torch uses this name itself; rename it, e.g. '{name}_input'"


def _method(run: RunFile) -> Found:
    try:
        check_known("method", run.method, METHODS)
    except ValueError as error:
        yield "method", str(error)


def _plan(run: RunFile) -> Found:
    plan = run.plan
    kind_only = {"fused_weight": ("confu", "disjoint"), "max_order": ("disjoint",), "target": ("target",)}
    for name, kinds in kind_only.items():
        if getattr(plan, name) is None:
            continue
        if plan.terms is not None:
            yield f"plan.{name}", "hand-picked terms have their own weights and subsets; remove it, or remove terms"
        elif plan.kind is not None and plan.kind not in kinds:
            yield f"plan.{name}", f"goes with kind {' or '.join(kinds)}, not with {plan.kind}; remove it"
    if plan.terms is not None and plan.kind is not None:
        yield "plan.kind", "give a kind or hand-picked terms, not both"
    if run.method not in METHODS or len(run.modalities) < 2:
        return
    try:
        built = run_plan(run)
    except ValueError as error:
        yield "plan", str(error)
        return
    if built.fused_subsets and not METHODS[run.method].fused:
        yield "plan", (f"{run.method} compares single modalities, but the plan has {built.fused_subsets[0]}; "
                       "use kind: pairwise, or method: confu")  # fmt: skip


def _fusion(run: RunFile) -> Found:
    spec = METHODS.get(run.method)
    if run.model.fusion is not None and spec is not None and not spec.fused:
        yield "model.fusion", f"{run.method} has no fusion networks; remove it"


def _groups(run: RunFile) -> Found:
    group = run.data.group
    texts = [name for name, modality in run.modalities.items() if modality.kind == "text"]
    if group is not None and group != "group" and group not in texts:
        yield "data.group", (f"expected 'group' (the column of that name) or a text modality "
                             f"({', '.join(texts) or 'there is none'}); got {group!r}")  # fmt: skip
    asked = {"loss.same_group": run.loss.same_group != "negatives", "train.sampling": run.train.sampling == "unique"}
    for path, wanted in asked.items():
        if wanted and group is None:
            yield path, "needs data.group: say which rows belong together"
    if run.loss.same_group != "negatives" and run.method in METHODS and METHODS[run.method].score != "cosine":
        yield "loss.same_group", f"{run.method} takes all other rows as negatives; only clip and confu can do otherwise"


def _zeros(run: RunFile) -> Found:
    if run.data.gaps != "mask" and run.train.sampling == "balanced":
        yield "train.sampling", f"data.gaps: {run.data.gaps} leaves no gaps to balance; use uniform"


RULES: tuple[Callable[[RunFile], Found], ...] = (_names, _method, _plan, _fusion, _groups, _zeros)
