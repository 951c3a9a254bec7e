"""Matrix products, convolution, attention."""

import math

import torch
import torch.nn.functional as F

from case import FLOATS, INTEGERS, Family, In, Random, dtype_name, ref

MATMUL = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((4,), (2, 4, 5)),
    ((2, 3, 4), (4,)),
    ((1, 1), (1, 1)),
    ((3, 0), (0, 2)),
    ((0, 3), (3, 2)),
    ((1, 40), (40, 33)),
]
LINEAR = [((3, 4), (5, 4)), ((2, 3, 4), (5, 4)), ((4,), (5, 4)), ((1, 1), (1, 1)), ((0, 4), (2, 4))]


def text(*shapes):
    return ",".join("x".join(map(str, shape)) for shape in shapes)


def products():
    family = Family("products")
    for dtype in FLOATS:
        matmul(family, dtype)
        linear(family, dtype)
        convolution(family, dtype)
    # Larger than a register tile in every dimension.
    rand = Random("tiles")
    a, b = rand.floats((17, 19), torch.float32), rand.floats((19, 23), torch.float32)
    family.add("matmul", "float32/17x19,19x23", [a, b], [ref(0), ref(1)], torch.matmul)
    for dtype in INTEGERS:
        a, b = Random(str(dtype)).of((2, 3), dtype), Random(str(dtype)).of((3, 2), dtype)
        args = [ref(0), ref(1)]
        family.add("matmul", dtype_name(dtype), [a, b], args, torch.matmul)
    return family


def matmul(family, dtype):
    name = dtype_name(dtype)
    args = [ref(0), ref(1)]
    for left, right in MATMUL if dtype == torch.float64 else MATMUL[:7]:
        rand = Random(f"matmul{left}{right}")
        a, b = rand.floats(left, dtype), rand.floats(right, dtype)
        label = f"{name}/{text(left, right)}"
        family.add("matmul", label, [a, b], args, torch.matmul, ulps=2)
    for sides in ((True, False), (False, True), (True, True)):
        rand = Random(f"strided{sides}")
        a, b = rand.floats((2, 3, 4), dtype), rand.floats((2, 4, 5), dtype)
        inputs = [In(x, strided=s) for x, s in zip((a, b), sides)]
        family.add("matmul", f"{name}/strided {sides}", inputs, args, torch.matmul, ulps=2)
        inputs = [In(x[0], strided=s) for x, s in zip((a, b), sides)]
        family.add("matmul", f"{name}/strided matrix {sides}", inputs, args, torch.matmul, ulps=2)


def linear(family, dtype):
    name = dtype_name(dtype)
    for shape, weight in LINEAR if dtype == torch.float64 else LINEAR[:3]:
        rand = Random(f"linear{shape}")
        x, w, b = (rand.floats(s, dtype) for s in (shape, weight, weight[:1]))
        label = f"{name}/{text(shape, weight)}"
        args = [ref(0), ref(1)]
        family.add("linear", label, [x, w], args, F.linear, ulps=2)
        family.add("linear", f"{label},bias", [x, w, b], [*args, ref(2)], F.linear, ulps=2)
    rand = Random("linear strided")
    x, w, b = (rand.floats(s, dtype) for s in ((3, 4), (5, 4), (5,)))
    inputs = [In(x, strided=True), In(w, strided=True), b]
    args = [ref(0), ref(1), ref(2)]
    family.add("linear", f"{name}/strided", inputs, args, F.linear, ulps=2)


def convolution(family, dtype):
    rand = Random("conv")
    x, w, b = (rand.floats(s, dtype, -1, 1) for s in ((2, 2, 5, 4), (3, 2, 3, 2), (3,)))
    variants = [{}, {"stride": 2}, {"padding": 1}, {"stride": [2, 1], "padding": [0, 1]}]
    variants += [{"dilation": 2}]
    for options in variants if dtype in FLOATS[:2] else variants[-2:]:
        fn = lambda x, w, b: F.conv2d(x, w, b, **options)
        label = f"{dtype_name(dtype)}/{options}".replace("'", "")
        args = [ref(0), ref(1), ref(2), options]
        family.add("conv2d", label, [x, w, b], args, fn, ulps=2)
    fn = lambda x, w: F.conv2d(x, w)
    args = [ref(0), ref(1)]
    family.add("conv2d", f"{dtype_name(dtype)}/no bias", [x, w], args, fn, ulps=2)


def attend(q, k, v, mask=None, causal=False, scale=None):
    """The formula; torch 1.13 has no public function for it."""
    scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~seen, float("-inf"))
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ v


def attention():
    family = Family("attention")
    op = "scaledDotProductAttention"
    for dtype in FLOATS:
        name = dtype_name(dtype)
        rand = Random(op)
        q, k, v = (rand.floats(s, dtype) for s in ((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)))
        args = [ref(0), ref(1), ref(2)]
        family.add(op, f"{name}/plain", [q, k, v], args, attend, ulps=2)
        strided = [In(x, strided=True) for x in (q, k, v)]
        family.add(op, f"{name}/strided", strided, args, attend, ulps=2)
        scaled = lambda q, k, v: attend(q, k, v, scale=0.3)
        family.add(op, f"{name}/scale", [q, k, v], [*args, {"scale": 0.3}], scaled, ulps=2)
        causal = lambda q, k, v: attend(q, k, v, causal=True)
        square = [q, k[:, :, :3], v[:, :, :3]]
        family.add(op, f"{name}/causal", square, [*args, {"causal": True}], causal, ulps=2)
        family.add(op, f"{name}/causal, longer", [q, k, v], [*args, {"causal": True}], causal, ulps=2)
        keep = rand.ints(0, 2, (1, 1, 1, 5), torch.bool)
        keep[..., 0] = True
        masked = [*args, {"mask": ref(3)}]
        family.add(op, f"{name}/bool mask", [q, k, v, keep], masked, attend, ulps=2)
        added = In(rand.floats((3, 5), dtype), grad=False)
        family.add(op, f"{name}/added mask", [q, k, v, added], masked, attend, ulps=2)
        rows = [x[0, 0] for x in (q, k, v)]
        family.add(op, f"{name}/2-d", rows, args, attend, ulps=2)
    rand = Random("attention shapes")
    q, k, v = (rand.floats(s, torch.float64) for s in ((3, 4, 4), (3, 6, 4), (3, 6, 2)))
    args = [ref(0), ref(1), ref(2)]
    family.add(op, "float64/3-d, another value width", [q, k, v], args, attend)
    family.add(op, "float64/broadcast", [q, k[:1], v[:1]], args, attend)
    family.add(op, "float64/one key", [q, k[:, :1], v[:, :1]], args, attend)
    trained = rand.floats((4, 6), torch.float64)
    args = [*args, {"mask": ref(3)}]
    family.add(op, "float64/mask with gradient", [q, k, v, trained], args, attend)
    return family
