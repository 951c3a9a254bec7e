"""Views, joins, and picking by index: elements only move, so results are exact."""

import torch
import torch.nn.functional as F

from case import ALL, FLOATS, Family, In, Random, dtype_name, ref

# (label, op, arguments after the tensor, torch's form), on an input of shape [2, 3, 4].
VIEWS = [
    ("to 6x4", "reshape", [[6, 4]], lambda x: x.reshape(6, 4)),
    ("with -1", "reshape", [[4, -1]], lambda x: x.reshape(4, -1)),
    ("all", "flatten", [], lambda x: x.flatten()),
    ("from 1", "flatten", [1], lambda x: x.flatten(1)),
    ("0 to 1", "flatten", [0, 1], lambda x: x.flatten(0, 1)),
    ("last two", "transpose", [-2, -1], lambda x: x.transpose(-2, -1)),
    ("0 and 2", "transpose", [0, 2], lambda x: x.transpose(0, 2)),
    ("rotate", "permute", [[2, 0, 1]], lambda x: x.permute(2, 0, 1)),
    ("negative", "permute", [[-1, 1, 0]], lambda x: x.permute(-1, 1, 0)),
    ("front", "unsqueeze", [0], lambda x: x.unsqueeze(0)),
    ("back", "unsqueeze", [-1], lambda x: x.unsqueeze(-1)),
    ("middle", "narrow", [2, 1, 2], lambda x: x.narrow(2, 1, 2)),
    ("nothing", "narrow", [1, 1, 0], lambda x: x.narrow(1, 1, 0)),
    ("first", "select", [0, 0], lambda x: x.select(0, 0)),
    ("last", "select", [-1, -1], lambda x: x.select(-1, -1)),
    ("by 2", "split", [2, 2], lambda x: x.split(2, 2)),
    ("by 2, rest", "split", [2, 1], lambda x: x.split(2, 1)),
    ("sizes", "split", [[1, 3], -1], lambda x: x.split([1, 3], -1)),
    ("in 2", "chunk", [2, 1], lambda x: x.chunk(2, 1)),
    ("in 3", "chunk", [3, 2], lambda x: x.chunk(3, 2)),
]


def movement():
    family = Family("movement")
    for dtype in ALL:
        x = Random(f"view{dtype}").of((2, 3, 4), dtype)
        for label, op, rest, fn in VIEWS:
            # One of every kind in each dtype, all of them in float64.
            if dtype == torch.float64 or label in ("to 6x4", "rotate", "middle", "by 2, rest"):
                family.add(op, f"{dtype_name(dtype)}/{label}", [x], [ref(0), *rest], fn, exact=True)
            if dtype == torch.float64:
                strided = [In(x, strided=True)]
                family.add(op, f"strided/{label}", strided, [ref(0), *rest], fn, exact=True)
    squeeze_and_expand(family)
    join(family)
    return family


def squeeze_and_expand(family):
    x = Random("squeeze").floats((1, 3, 1), torch.float64)
    add = lambda op, label, rest, fn: family.add(op, label, [x], [ref(0), *rest], fn, exact=True)
    add("squeeze", "all", [], lambda x: x.squeeze())
    add("squeeze", "first", [0], lambda x: x.squeeze(0))
    add("squeeze", "last", [-1], lambda x: x.squeeze(-1))
    add("squeeze", "not 1", [1], lambda x: x.squeeze(1))
    add("expand", "both", [[2, 3, 4]], lambda x: x.expand(2, 3, 4))
    add("expand", "more dimensions", [[5, 1, 3, 2]], lambda x: x.expand(5, 1, 3, 2))
    add("expand", "with -1", [[2, -1, -1]], lambda x: x.expand(2, -1, -1))
    scalar = torch.tensor(1.5, dtype=torch.float64)
    fn = lambda x: x.expand(2, 2)
    family.add("expand", "0-d", [scalar], [ref(0), [2, 2]], fn, exact=True)


def join(family):
    for dtype in ALL:
        rand = Random(f"join{dtype}")
        a, b = rand.of((2, 3), dtype), rand.of((1, 3), dtype)
        name = dtype_name(dtype)
        args = [[ref(0), ref(1)], 0]
        family.add("cat", name, [a, b], args, lambda *x: torch.cat(x, 0), exact=True)
        args = [[ref(0), ref(1)], -1]
        c = rand.of((2, 3), dtype)
        family.add("stack", name, [a, c], args, lambda *x: torch.stack(x, -1), exact=True)
    rand = Random("cat")
    inputs = [In(rand.floats((2, n), torch.float64), strided=True) for n in (3, 0, 1, 2)]
    args = [[ref(i) for i in range(4)], 1]
    family.add("cat", "strided and empty", inputs, args, lambda *x: torch.cat(x, 1), exact=True)
    half, whole = rand.floats((2,), torch.float16), rand.ints(-5, 5, (3,))
    args = [[ref(0), ref(1)], 0]
    wide = rand.floats((2,), torch.float32)
    family.add("cat", "float16,float32", [half, wide], args, lambda *x: torch.cat(x))
    family.add("cat", "float32,int64", [wide, whole], args, lambda *x: torch.cat(x))
    default = lambda *x: torch.cat(x)
    family.add("cat", "default dim", [wide, wide], [[ref(0), ref(1)]], default, exact=True)


def indexing():
    family = Family("indexing")
    for dtype in ALL:
        pick(family, dtype)
    for dtype in FLOATS:
        embed(family, dtype)
    return family


def pick(family, dtype):
    rand = Random(f"index{dtype}")
    name = dtype_name(dtype)
    x = rand.of((3, 4), dtype)
    index = torch.tensor([2, 0, 2])
    args = [ref(0), 0, ref(1)]
    fn = lambda x, i: x.index_select(0, i)
    family.add("indexSelect", f"{name}/rows", [x, index], args, fn, exact=True)
    columns = In(x, strided=True)
    args = [ref(0), -1, ref(1)]
    fn = lambda x, i: x.index_select(-1, i)
    family.add("indexSelect", f"{name}/strided columns", [columns, index], args, fn, exact=True)
    none = torch.zeros(0, dtype=torch.int64)
    family.add("indexSelect", f"{name}/none", [x, none], args, fn, exact=True)
    where = rand.ints(0, 3, (2, 4))
    args = [ref(0), 0, ref(1)]
    fn = lambda x, i: x.gather(0, i)
    family.add("gather", f"{name}/0", [x, where], args, fn, exact=True)
    where = rand.ints(0, 4, (3, 2))
    args = [ref(0), 1, ref(1)]
    fn = lambda x, i: x.gather(1, i)
    family.add("gather", f"{name}/1", [columns, where], args, fn, exact=True)
    if dtype == torch.bool:
        return
    source = rand.of((3, 2), dtype)
    args = [ref(0), 1, ref(1), ref(2)]
    fn = lambda x, i, s: x.scatter_add(1, i, s)
    family.add("scatterAdd", f"{name}/1", [x, where, source], args, fn, ulps=2)


def embed(family, dtype):
    name = dtype_name(dtype)
    weight = Random(f"embed{dtype}").floats((6, 4), dtype)
    for label, ids in {
        "2-d": torch.tensor([[1, 5, 1], [0, 2, 1]]),
        "0-d": torch.tensor(3),
        "empty": torch.zeros(0, dtype=torch.int64),
    }.items():
        fn = lambda w, i: F.embedding(i, w)
        args = [ref(0), ref(1)]
        family.add("embedding", f"{name}/{label}", [weight, ids], args, fn, exact=True)
    ids = torch.tensor([0, 2, 2, 1])
    fn = lambda w, i: F.embedding(i, w, padding_idx=2)
    args = [ref(0), ref(1), {"paddingIdx": 2}]
    family.add("embedding", f"{name}/paddingIdx", [weight, ids], args, fn, exact=True)


def cast():
    """Every pair of dtypes; rounding, overflow and subnormals of the 16-bit floats."""
    family = Family("cast")
    # On both sides of ties, of the largest float16 and of the smallest.
    edges = [1.0, 1.00048828125, 1.0009765625, 1.00146484375, 1.001953125, 1.00390625, 1.01171875]
    edges += [65504.0, 65519.0, 65520.0, 1e6, 3.3895314e38, 3.4e38, 5.9604645e-08, 2.9802322e-08]
    edges += [2.9802326e-08, 8.940697e-08, 6.1e-05, 1e-40, 1e-45, 0.1, 1 / 3, 2049.0, 2051.0]
    edges += [0.0, -0.0, float("inf"), float("nan")]
    values = torch.tensor(edges + [-v for v in edges], dtype=torch.float32)
    for source in FLOATS:
        for target in FLOATS:
            x = values.to(source)
            if source == torch.float64:
                x = values.double()
            label = f"{dtype_name(source)},{dtype_name(target)}"
            args = [ref(0), dtype_name(target)]
            # The rounding of torch's own conversion, not the one that this file writes with.
            fn = direct(x, target)
            family.add("to", label, [x], args, fn, grads=False, exact=True, narrow=False)
    for source in ALL:
        for target in ALL:
            if source in FLOATS and target in FLOATS:
                continue
            x = torch.tensor([0, 1, 5, 100, 0, 3]).to(source)
            if source in FLOATS:
                x = x + torch.tensor([0, 0.5, 0.75, 0, 0.25, 0.99]).to(source)
            label = f"{dtype_name(source)},{dtype_name(target)}"
            args = [ref(0), {"dtype": dtype_name(target)}]
            fn = direct(x, target)
            family.add("to", label, [x], args, fn, grads=False, exact=True, narrow=False)
    for source, target in ((torch.float32, torch.float16), (torch.bfloat16, torch.float32)):
        x = Random("to").floats((3, 4), source)
        label = f"{dtype_name(source)},{dtype_name(target)}/gradient"
        args = [ref(0), dtype_name(target)]
        fn = lambda x: x.to(target)
        family.add("to", label, [In(x, strided=True)], args, fn, narrow=False)
    return family


def direct(x, target):
    return lambda _: x.to(target)
