"""Reductions, softmax and the functions along one dimension."""

import torch
import torch.nn.functional as F

from case import ALL, FLOATS, INTEGERS, Family, In, Random, dtype_name, ref

# (shape, dim): every dimension, several, all, negative, length 1, 0-d.
WHERE = [
    ((3, 4), None),
    ((3, 4), 0),
    ((3, 4), -1),
    ((2, 3, 4), [0, 2]),
    ((2, 3, 4), 1),
    ((1,), 0),
    ((), None),
    ((5, 1), 1),
    ((2, 33), -1),
]
ALONG = [((3, 4), 1), ((3, 4), 0), ((2, 3, 5), -2), ((1,), 0), ((0, 3), 1), ((), 0), ((4, 1), -1)]


def text(shape):
    return "x".join(map(str, shape)) or "0-d"


def options_of(dim, keepdim):
    out = {} if dim is None else {"dim": dim}
    if keepdim:
        out["keepdim"] = True
    return out


def call(fn, dim, keepdim, rank):
    """torch's reductions take no `dim=None` together with keepdim."""
    dims = list(range(rank)) if dim is None else dim
    return lambda x: fn(x, dims, keepdim)


REDUCTIONS = {
    "sum": lambda x, dims, keep: torch.sum(x, dims, keep) if dims != [] else torch.sum(x),
    "mean": lambda x, dims, keep: torch.mean(x, dims, keep) if dims != [] else torch.mean(x),
    "amax": lambda x, dims, keep: torch.amax(x, dims, keep),
    "amin": lambda x, dims, keep: torch.amin(x, dims, keep),
    "logsumexp": lambda x, dims, keep: torch.logsumexp(x, dims, keep) if dims != [] else x * 1,
}


def reduce():
    family = Family("reduce")
    for op, fn in REDUCTIONS.items():
        for dtype in FLOATS:
            for shape, dim in WHERE if dtype == torch.float64 else WHERE[:4]:
                for keepdim in (False, True):
                    x = Random(f"{op}{shape}").floats(shape, dtype)
                    label = f"{dtype_name(dtype)}/{text(shape)},dim={dim},keepdim={keepdim}"
                    args = [ref(0), options_of(dim, keepdim)]
                    family.add(op, label, [x], args, call(fn, dim, keepdim, len(shape)), ulps=2)
            x = In(Random(op).floats((3, 4), dtype), strided=True)
            label = f"{dtype_name(dtype)}/strided"
            family.add(op, label, [x], [ref(0), {"dim": 1}], call(fn, 1, False, 2), ulps=2)
        x = Random(op).floats((3, 4), torch.float32)
        family.add(op, "no options", [x], [ref(0)], call(fn, None, False, 2))
    variance(family)
    integers(family)
    extremes(family)
    return family


def variance(family):
    for dtype in FLOATS:
        for shape, dim in [w for w in WHERE if w[0] not in ((), (1,), (5, 1))]:
            for correction in (1, 0):
                x = Random(f"var{shape}").floats(shape, dtype)
                label = f"{dtype_name(dtype)}/{text(shape)},dim={dim},correction={correction}"
                options = options_of(dim, correction == 0) | {"correction": correction}
                dims = list(range(len(shape))) if dim is None else dim
                fn = lambda x: torch.var(x, dims, correction=correction, keepdim=correction == 0)
                family.add("variance", label, [x], [ref(0), options], fn, ulps=2)
    x = Random("var").floats((6,), torch.float32) + 1000
    family.add("variance", "far from 0", [x], [ref(0)], torch.var, grads=False)
    one = torch.tensor([[2.0], [3.0]])
    fn = lambda x: torch.var(x, 1)
    family.add("variance", "one element", [one], [ref(0), {"dim": 1}], fn, grads=False)


def integers(family):
    for dtype in INTEGERS + (torch.bool,):
        x = Random(str(dtype)).of((3, 4), dtype)
        name = dtype_name(dtype)
        family.add("sum", name, [x], [ref(0), {"dim": 0}], lambda x: x.sum(0))
        family.add("cumsum", name, [x], [ref(0), 1], lambda x: x.cumsum(1))
        family.add("amax", name, [x], [ref(0), {"dim": 0}], lambda x: x.amax(0))
        family.add("amin", name, [x], [ref(0), {"dim": 1}], lambda x: x.amin(1))
        if dtype != torch.bool:
            family.add("argmax", name, [x], [ref(0), {"dim": 1}], lambda x: x.long().argmax(1))
    x = torch.tensor([2**40, 2**40 + 1, -7])
    family.add("sum", "int64/large", [x], [ref(0)], torch.sum)


def extremes(family):
    """Empty and non-finite inputs, ties, argmax."""
    empty = torch.zeros(0, 3, dtype=torch.float32)
    family.add("sum", "empty,dim=0", [empty], [ref(0), {"dim": 0}], lambda x: x.sum(0))
    family.add("sum", "empty,dim=1", [empty], [ref(0), {"dim": 1}], lambda x: x.sum(1))
    family.add("sum", "empty", [empty], [ref(0)], torch.sum)
    family.add("mean", "empty", [empty], [ref(0)], torch.mean, grads=False)
    family.add("amax", "empty,dim=1", [empty], [ref(0), {"dim": 1}], lambda x: x.amax(1))
    fn = lambda x: x.logsumexp(0)
    family.add("logsumexp", "empty,dim=0", [empty], [ref(0), {"dim": 0}], fn, grads=False)
    for dtype in FLOATS:
        name = dtype_name(dtype)
        ties = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], dtype=dtype)
        family.add("amax", f"{name}/ties", [ties], [ref(0), {"dim": 1}], lambda x: x.amax(1))
        family.add("amin", f"{name}/ties", [ties], [ref(0), {"dim": 1}], lambda x: x.amin(1))
        first = lambda x: x.argmax(1)
        family.add("argmax", f"{name}/ties", [ties[:1]], [ref(0), {"dim": 1}], first)
        wild = torch.tensor([[1.0, float("nan"), 3.0], [float("-inf"), float("inf"), 0.0]])
        wild = wild.to(dtype)
        for op in ("amax", "amin", "sum"):
            fn = lambda x: getattr(torch, op)(x, 1)
            args = [ref(0), {"dim": 1}]
            family.add(op, f"{name}/not finite", [wild], args, fn, grads=False)
        family.add("argmax", f"{name}/not finite", [wild], [ref(0), {"dim": 1}], first)
        x = Random("argmax").floats((3, 4), dtype)
        family.add("argmax", f"{name}/all", [x], [ref(0)], torch.argmax)
        for dim in (0, -1):
            options = {"dim": dim, "keepdim": True}
            fn = lambda x: x.argmax(dim, keepdim=True)
            family.add("argmax", f"{name}/dim={dim}", [x], [ref(0), options], fn)
        infinite = torch.tensor([[float("-inf")] * 2, [float("inf"), 1.0], [800.0, 801.0]])
        infinite = infinite.to(dtype)
        fn = lambda x: x.logsumexp(1)
        args = [ref(0), {"dim": 1}]
        family.add("logsumexp", f"{name}/large", [infinite], args, fn, grads=False)


def softmax():
    family = Family("softmax")
    for op, fn in {"softmax": F.softmax, "logSoftmax": F.log_softmax}.items():
        for dtype in FLOATS:
            for shape, dim in ALONG if dtype == torch.float64 else ALONG[:3]:
                x = Random(f"{op}{shape}").floats(shape, dtype, -5, 5)
                label = f"{dtype_name(dtype)}/{text(shape)},dim={dim}"
                along = lambda x: fn(x, dim)
                family.add(op, label, [x], [ref(0), {"dim": dim}], along, ulps=2)
            x = In(Random(op).floats((3, 40), dtype, -5, 5), strided=True)
            args = [ref(0), {"dim": -1}]
            along = lambda x: fn(x, -1)
            family.add(op, f"{dtype_name(dtype)}/strided", [x], args, along, ulps=2)
            large = torch.tensor([[800.0, 801.0, 799.0], [-900.0, 0.0, float("-inf")]]).to(dtype)
            family.add(op, f"{dtype_name(dtype)}/large", [large], args, along, ulps=2, grads=False)
            masked = torch.full((1, 3), float("-inf")).to(dtype)
            family.add(op, f"{dtype_name(dtype)}/-Infinity", [masked], args, along, grads=False)
    return family


def scan():
    """cumsum, sort, topk and multinomial."""
    family = Family("scan")
    for dtype in FLOATS:
        name = dtype_name(dtype)
        for shape, dim in ALONG if dtype == torch.float64 else ALONG[:3]:
            x = Random(f"scan{shape}").floats(shape, dtype)
            label = f"{name}/{text(shape)},dim={dim}"
            fn = lambda x: x.cumsum(dim)
            family.add("cumsum", label, [x], [ref(0), dim], fn, ulps=2)
            for descending in (False, True):
                options = {"dim": dim, "descending": descending}
                fn = lambda x: torch.sort(x, stable=True, **options)
                args = [ref(0), options]
                family.add("sort", f"{label},{descending}", [x], args, fn, exact=True)
        x = In(Random("scan").floats((3, 4), dtype), strided=True)
        fn = lambda x: x.cumsum(1)
        family.add("cumsum", f"{name}/strided", [x], [ref(0), 1], fn, ulps=2)
        for k, dim, largest in ((2, -1, True), (3, 0, False), (1, 1, True), (0, 1, True)):
            options = {"dim": dim, "largest": largest}
            fn = lambda x: torch.topk(x, k, **options)
            label = f"{name}/k={k},dim={dim},largest={largest}"
            family.add("topk", label, [x], [ref(0), k, options], fn, exact=True)
    equal = torch.tensor([2.0, 1.0, 2.0, 1.0, 3.0])
    fn = lambda x: torch.sort(x, stable=True)
    family.add("sort", "stable", [equal], [ref(0)], fn, exact=True)
    for dtype in INTEGERS:
        x = Random(str(dtype)).of((2, 5), dtype)
        fn = lambda x: torch.sort(x, dim=-1, stable=True)
        family.add("sort", dtype_name(dtype), [x], [ref(0)], fn, exact=True)
    # Only one outcome is possible, whatever the random numbers.
    weights = torch.tensor([[0.0, 0.0, 5.0], [1.0, 0.0, 0.0]])
    fn = lambda x: torch.multinomial(x, 4, True)
    args = [ref(0), 4, {"replacement": True}]
    family.add("multinomial", "certain", [weights], args, fn, grads=False)
    return family
