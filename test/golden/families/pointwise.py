"""Element-wise functions of one tensor."""

import torch
import torch.nn.functional as F

from case import FLOATS, INTEGERS, Family, In, Random, dtype_name, float_variants, ref

SHAPES = [(3, 4), (17,), (1,), (), (0, 3), (2, 1, 3)]
# Every exponent, both signs, zeros, infinities and NaN.
SPECIAL = [0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan"), 1e-30, 88.0, -88.0]

# name: (torch function, lowest input, highest input, takes special values, ulps in 16 bits)
FUNCTIONS = {
    "neg": (torch.neg, -3, 3, None),
    "abs": (torch.abs, -3, 3, None),
    "exp": (torch.exp, -3, 3, 2),
    "log": (torch.log, 0.1, 5, 2),
    "sqrt": (torch.sqrt, 0.1, 5, None),
    "rsqrt": (torch.rsqrt, 0.1, 5, 2),
    "reciprocal": (torch.reciprocal, 0.2, 4, None),
    "tanh": (torch.tanh, -3, 3, 2),
    "sigmoid": (torch.sigmoid, -5, 5, 2),
    "relu": (torch.relu, -3, 3, None),
    "silu": (F.silu, -5, 5, 2),
    "erf": (torch.erf, -3, 3, 2),
    "sin": (torch.sin, -6, 6, 2),
    "cos": (torch.cos, -6, 6, 2),
}
KEEP_INTEGERS = ("neg", "abs", "relu")


def pointwise():
    family = Family("pointwise")
    for op, (fn, low, high, ulps) in FUNCTIONS.items():
        for label, x in float_variants(Random(op), SHAPES, low, high):
            family.add(op, label, [x], [ref(0)], fn, ulps=ulps)
        for dtype in FLOATS:
            special = In(torch.tensor(SPECIAL, dtype=torch.float64).to(dtype))
            label = f"{dtype_name(dtype)}/special"
            family.add(op, label, [special], [ref(0)], fn, ulps=ulps, grads=False)
        for dtype in INTEGERS:
            x = Random(op + str(dtype)).of((5,), dtype, 1 if low > 0 else -3) + int(low > 0)
            # torch lacks some functions of integers; the library computes those in float32.
            call = fn if op in KEEP_INTEGERS else lambda x: fn(x.float())
            family.add(op, dtype_name(dtype), [x], [ref(0)], call, ulps=ulps)
    gelu(family)
    clamp(family)
    classify(family)
    return family


def gelu(family):
    for approximate in ("none", "tanh"):
        fn = lambda x: F.gelu(x, approximate=approximate)
        for label, x in float_variants(Random(approximate), SHAPES, -5, 5):
            args = [ref(0), {"approximate": approximate}]
            family.add("gelu", f"{approximate}/{label}", [x], args, fn, ulps=2)
    x = In(torch.tensor([-12.0, -5.5, 0.0, 5.5, 12.0], dtype=torch.float32))
    family.add("gelu", "default/float32", [x], [ref(0)], F.gelu)


def clamp(family):
    for bounds in ({"min": -1, "max": 1.5}, {"min": 0.25}, {"max": -0.5}, {"min": 2, "max": 1}):
        label = ",".join(f"{k}={v}" for k, v in bounds.items())
        for variant, x in float_variants(Random(label), SHAPES):
            fn = lambda x: torch.clamp(x, **bounds)
            family.add("clamp", f"{label}/{variant}", [x], [ref(0), bounds], fn)
    # Bounds that are not whole turn integers to float32; torch rounds the bound to the tensor's dtype
    # in some versions, so only whole bounds are compared.
    for dtype in INTEGERS:
        x = In(Random(str(dtype)).of((9,), dtype))
        bounds = {"min": 1, "max": 5}
        fn = lambda x: torch.clamp(x, 1, 5)
        family.add("clamp", dtype_name(dtype), [x], [ref(0), bounds], fn)


def classify(family):
    for dtype in FLOATS + INTEGERS + (torch.bool,):
        values = torch.tensor(SPECIAL, dtype=torch.float64)
        x = values.to(dtype) if dtype.is_floating_point else torch.arange(4).to(dtype)
        family.add("isnan", dtype_name(dtype), [x], [ref(0)], torch.isnan, grads=False)
        family.add("isfinite", dtype_name(dtype), [x], [ref(0)], torch.isfinite, grads=False)
