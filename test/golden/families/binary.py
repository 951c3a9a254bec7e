"""Element-wise functions of two operands, and the dtype in which they meet."""

import torch

from case import ALL, FLOATS, HALVES, INTEGERS, Family, In, Random, dtype_name, ref

# Pairs of shapes: equal, row, column, both, 0-d on either side, empty, length 1, higher rank.
SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((0, 3), (3,)),
    ((1,), (1,)),
    ((2, 1, 3), (4, 1)),
]
FUNCTIONS = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
COMPARE = {
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}
SPECIAL = [0.0, -0.0, 1.0, float("inf"), float("-inf"), float("nan")]


def text(shape):
    return "x".join(map(str, shape)) or "0-d"


def binary():
    family = Family("binary")
    for op, fn in FUNCTIONS.items():
        shapes_and_dtypes(family, op, fn)
        special_values(family, op, fn)
    for op, fn in COMPARE.items():
        special_values(family, op, fn)
    scalars(family)
    ties(family)
    power(family)
    selection(family)
    return family


def shapes_and_dtypes(family, op, fn, low=-3.0, **options):
    for dtype in FLOATS:
        for left, right in SHAPES if dtype == torch.float64 else SHAPES[:3]:
            rand = Random(f"{op}{dtype}{left}{right}")
            a, b = rand.floats(left, dtype, low), rand.floats(right, dtype, low)
            label = f"{dtype_name(dtype)}/{text(left)},{text(right)}"
            family.add(op, label, [a, b], [ref(0), ref(1)], fn, **options)
        rand = Random(f"{op}{dtype}strided")
        a, b = rand.floats((3, 4), dtype, low), rand.floats((2, 3, 4), dtype, low)
        inputs = [In(a, strided=True), b]
        family.add(op, f"{dtype_name(dtype)}/strided", inputs, [ref(0), ref(1)], fn, **options)


def special_values(family, op, fn):
    values = torch.tensor(SPECIAL, dtype=torch.float64)
    for dtype in FLOATS:
        a, b = values.to(dtype).reshape(-1, 1), values.to(dtype)
        label = f"{dtype_name(dtype)}/special"
        family.add(op, label, [a, b], [ref(0), ref(1)], fn, grads=False)


def scalars(family):
    for op, fn in list(FUNCTIONS.items())[:4]:
        for dtype in FLOATS:
            for value in (2, -0.75):
                x = Random(f"{op}{value}").floats((2, 3), dtype, 0.5, 3)
                label = f"{dtype_name(dtype)}/scalar {value}"
                family.add(op, label + " right", [x], [ref(0), value], lambda x: fn(x, value))
                left = lambda x: fn(torch.tensor(value, dtype=x.dtype), x)
                family.add(op, label + " left", [x], [value, ref(0)], left)
    for op, fn in COMPARE.items():
        x = torch.tensor([-1.0, 0.5, 2.0, float("nan")])
        family.add(op, "scalar right", [x], [ref(0), 0.5], lambda x: fn(x, 0.5))
        family.add(op, "scalar left", [x], [0.5, ref(0)], lambda x: fn(torch.tensor(0.5), x))


def ties(family):
    for op in ("maximum", "minimum"):
        for dtype in FLOATS:
            a = torch.tensor([1.0, 2.0, 2.0, -1.0, 0.0], dtype=dtype)
            b = torch.tensor([1.0, 3.0, 1.0, -1.0, 0.0], dtype=dtype)
            args = [ref(0), ref(1)]
            family.add(op, f"{dtype_name(dtype)}/ties", [a, b], args, FUNCTIONS[op])


def power(family):
    shapes_and_dtypes(family, "pow", torch.pow, low=0.2, ulps=2)
    for dtype in FLOATS:
        for exponent in (0, 1, 2, 3, 0.5, -1, -2, 1.7):
            x = Random(f"pow{exponent}").floats((6,), dtype, 0.3, 2.5)
            fn = lambda x: torch.pow(x, exponent)
            label = f"{dtype_name(dtype)}/exponent {exponent}"
            family.add("pow", label, [x], [ref(0), exponent], fn, ulps=2)
        x = Random("base").floats((6,), dtype, -2, 2)
        label = f"{dtype_name(dtype)}/base 2.5"
        family.add("pow", label, [x], [2.5, ref(0)], lambda x: torch.pow(2.5, x), ulps=2)
    negative = torch.tensor([-2.0, -1.0, -0.5, 0.0, 1.5], dtype=torch.float64)
    for exponent in (2, 3, -3, 0.5):
        label = f"float64/negative base, exponent {exponent}"
        fn = lambda x: torch.pow(x, exponent)
        grads = exponent not in (-3, 0.5)
        family.add("pow", label, [negative], [ref(0), exponent], fn, grads=grads)
    zeros = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    exponents = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    family.add("pow", "float64/zero", [zeros, exponents], [ref(0), ref(1)], torch.pow)
    for dtype in INTEGERS:
        x = torch.arange(0, 5).to(dtype)
        family.add("pow", f"{dtype_name(dtype)}/squared", [x], [ref(0), 2], lambda x: x**2)


def selection(family):
    for dtype in ALL:
        rand = Random(f"where{dtype}")
        condition = rand.of((3, 4), torch.bool)
        a, b = rand.of((3, 4), dtype), rand.of((4,), dtype)
        args = [ref(0), ref(1), ref(2)]
        name = dtype_name(dtype)
        family.add("where", name, [condition, a, b], args, torch.where, exact=True)
        if dtype in FLOATS:
            fn = lambda c, a: torch.where(c, a, torch.tensor(1.5, dtype=a.dtype))
            family.add("where", f"{name}/scalar", [condition, a], [ref(0), ref(1), 1.5], fn)
            inputs = [In(condition, strided=True), In(a, strided=True), b]
            family.add("where", f"{name}/strided", inputs, args, torch.where, exact=True)
        mask = rand.of((4,), torch.bool)
        fill = 1 if dtype == torch.bool else 7
        fn = lambda x, m: x.masked_fill(m, fill)
        args = [ref(0), ref(1), fill]
        family.add("maskedFill", name, [a, mask], args, fn, exact=True)
    x = Random("fill").floats((2, 3), torch.float16)
    mask = torch.tensor([True, False, True])
    fn = lambda x, m: x.masked_fill(m, float("-inf"))
    family.add("maskedFill", "float16/-Infinity", [x, mask], [ref(0), ref(1), "-Infinity"], fn)


def promoted(a, b):
    """torch's common dtype, but int32 for int16, which the library does not have."""
    found = torch.result_type(a, b)
    return torch.int32 if found == torch.int16 else found


def promotion():
    """Every pair of dtypes: two tensors, a tensor and a 0-d tensor, a tensor and a number."""
    family = Family("promotion")
    functions = {"add": torch.add, "mul": torch.mul, "div": torch.div, "lt": torch.lt, "eq": torch.eq}
    for op, fn in functions.items():
        for first in ALL:
            for second in ALL:
                for shape in ((3,), ()):
                    pair(family, op, fn, first, second, shape)
            for value in (2, 0.5):
                number(family, op, fn, first, value)
    return family


def pair(family, op, fn, first, second, shape):
    rand = Random(f"{first}{second}{shape}")
    a = rand.of((3,), first, 0.5)
    b = rand.of(shape, second, 0.5)
    b = b + 1 if second in INTEGERS else b
    if op == "div" and second == torch.bool:
        b = torch.ones_like(b)
    label = f"{dtype_name(first)},{dtype_name(second)}{'' if shape else ' 0-d'}"
    common = promoted(a, b)
    expected = in_common(fn, a, b, common)
    # Computed in float32 where the common dtype is a 16-bit float, rounded once.
    family.add(op, label, [a, b], [ref(0), ref(1)], lambda *_: expected, grads=False)


def number(family, op, fn, dtype, value):
    a = Random(f"{dtype}{value}").of((3,), dtype, 0.5)
    expected = in_common(fn, a, torch.tensor(value) if value == 2 else value, promoted(a, value))
    label = f"{dtype_name(dtype)},{value}"
    family.add(op, label, [a], [ref(0), value], lambda *_: expected, grads=False)


def in_common(fn, a, b, common):
    b = torch.as_tensor(b)
    if common not in HALVES:
        return fn(a.to(common), b.to(common))
    out = fn(a.to(common).float(), b.to(common).float())
    return out.to(common) if out.dtype == torch.float32 else out
