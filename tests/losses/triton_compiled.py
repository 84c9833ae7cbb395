"""Compiles the kernels for GPUs that need not be there; run as a program, it prints a line for each."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from confu.losses.triton_kernels import gradient_kernel, sums_kernel, tl

WHOLE = ("first", "n", "m", "dim", "chunk")
SIDES = ("left", "right")


def kind(name, held):
    if name in WHOLE:
        return "i32"
    return f"*{held}" if name in SIDES else "*i64" if name.endswith(("_group", "_row")) else "*fp32"


def compiled(kernel, capability, held, tile, block, width, warps, stages, precision="ieee"):
    """The kernel as it is started for vectors of this type and width, with groups."""
    type_held = {"bf16": tl.bfloat16, "fp32": tl.float32}[held]
    constants = {
        "tile": tile, "block": block, "width": width, "apart": True, "columns": True, "held": type_held,
        "stored": type_held, "precision": precision,
    }  # fmt: skip
    names = kernel.arg_names
    types = {name: "constexpr" if name in constants else kind(name, held) for name in names}
    values = {(names.index(name),): value for name, value in constants.items() if name in names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if types[name].startswith("*") or name == "dim"
    }
    source = ASTSource(kernel, types, values, aligned)
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


if __name__ == "__main__":
    for kernel in (sums_kernel, gradient_kernel):
        made = compiled(kernel, 90, "bf16", tile=128, block=64, width=256, warps=8, stages=2)
        print(kernel.__name__, len(made.asm["cubin"]) > 0, made.metadata.shared)
