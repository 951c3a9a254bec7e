"""Normalization, dropout and losses."""

import functools

import torch
import torch.nn.functional as F

from case import FLOATS, Family, In, Random, dtype_name, ref


def norm():
    family = Family("norm")
    for dtype in FLOATS:
        layer_norm(family, dtype)
        rms_norm(family, dtype)
        x = Random("dropout").floats((3, 4), dtype)
        name = dtype_name(dtype)
        evaluated = [ref(0), {"p": 0.5, "training": False}]
        family.add("dropout", f"{name}/evaluated", [x], evaluated, lambda x: x * 1, exact=True)
        args = [ref(0), {"p": 0, "training": True}]
        family.add("dropout", f"{name}/p=0", [x], args, lambda x: x * 1, exact=True)
        args = [ref(0), {"p": 1, "training": True}]
        family.add("dropout", f"{name}/p=1", [x], args, lambda x: x * 0)
    return family


def layer(x, over, weight=None, bias=None, eps=1e-5):
    """By its formula: torch's kernel leaves rounding errors where a single element cancels."""
    dims = list(range(-len(over), 0))
    centered = x - x.mean(dims, keepdim=True)
    out = centered * torch.rsqrt(centered.square().mean(dims, keepdim=True) + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


# (shape, normalized shape, eps): a row of one element is nothing but its eps.
NORMS = [((3, 8), (8,), 1e-3), ((2, 3, 4), (3, 4), 1e-5), ((2, 1), (1,), 0.25), ((0, 4), (4,), 1e-5)]


def layer_norm(family, dtype):
    name = dtype_name(dtype)
    for shape, over, eps in NORMS:
        rand = Random(f"layerNorm{shape}")
        x, w, b = (rand.floats(s, dtype) for s in (shape, over, over))
        label = f"{name}/{shape},{over}"
        add = functools.partial(family.add, "layerNorm", ulps=2, wide=True)
        args = [ref(0), list(over)]
        add(f"{label}/plain", [x], args, lambda x: layer(x, over))
        add(f"{label}/weight", [x, w], [*args, ref(1)], lambda x, w: layer(x, over, w))
        fn = lambda x, w, b: layer(x, over, w, b, eps)
        full = [*args, ref(1), ref(2), {"eps": eps}]
        add(f"{label}/weight, bias, eps", [x, w, b], full, fn)
        if shape == (3, 8):
            add(f"{label}/strided", [In(x, strided=True), w, b], full, fn)
            fn = lambda x, w, b: F.layer_norm(x, over, w, b, eps)
            add(f"{label}/torch", [x, w, b], full, fn)


def rms(x, over, weight=None, eps=1e-5):
    dims = list(range(-len(over), 0))
    out = x * torch.rsqrt(x.square().mean(dims, keepdim=True) + eps)
    return out if weight is None else out * weight


def rms_norm(family, dtype):
    """By its formula; torch 1.13 has none. The default eps is the library's, so it is always given."""
    name = dtype_name(dtype)
    for shape, over, eps in NORMS:
        rand = Random(f"rmsNorm{shape}")
        x, w = rand.floats(shape, dtype), rand.floats(over, dtype)
        label = f"{name}/{shape},{over}"
        add = functools.partial(family.add, "rmsNorm", ulps=2, wide=True)
        args = [ref(0), list(over), ref(1), {"eps": eps}]
        fn = lambda x, w: rms(x, over, w, eps)
        add(f"{label}/weight", [x, w], args, fn)
        if shape == (3, 8):
            add(f"{label}/strided", [In(x, strided=True), w], args, fn)
        args = [ref(0), list(over), None, {"eps": eps / 2}]
        add(f"{label}/plain", [x], args, lambda x: rms(x, over, eps=eps / 2))


REDUCTION = ("mean", "sum", "none")


def loss():
    family = Family("loss")
    for dtype in FLOATS:
        cross_entropy(family, dtype)
        regression(family, dtype)
        weighted(family, dtype)
    return family


def cross_entropy(family, dtype):
    name = dtype_name(dtype)
    rand = Random("crossEntropy")
    logits = rand.floats((5, 4), dtype, -4, 4)
    target = torch.tensor([0, 3, 1, -100, 2])
    log_probabilities = F.log_softmax(logits.double(), 1).to(dtype)
    args = [ref(0), ref(1)]
    for reduction in REDUCTION:
        for options in ({}, {"labelSmoothing": 0.1}, {"ignoreIndex": 1}):
            if "ignoreIndex" in options:
                wanted = torch.tensor([0, 3, 1, 1, 2])
            else:
                wanted = target
            fn = lambda x, t: F.cross_entropy(
                x,
                t,
                reduction=reduction,
                label_smoothing=options.get("labelSmoothing", 0.0),
                ignore_index=options.get("ignoreIndex", -100),
            )
            given = options | ({} if reduction == "mean" else {"reduction": reduction})
            label = f"{name}/{given}".replace("'", "")
            family.add("crossEntropy", label, [logits, wanted], [*args, given], fn, ulps=2)
            if "labelSmoothing" in options:
                continue
            fn = lambda x, t: F.nll_loss(
                x, t, reduction=reduction, ignore_index=options.get("ignoreIndex", -100)
            )
            inputs = [log_probabilities, wanted]
            family.add("nllLoss", label, inputs, [*args, given], fn, ulps=2)
    if dtype not in FLOATS[:2]:
        return
    spatial, wanted = rand.floats((2, 3, 4), dtype), rand.ints(0, 3, (2, 4))
    label = f"{name}/[N, C, d]"
    family.add("crossEntropy", label, [spatial, wanted], args, F.cross_entropy)
    family.add("crossEntropy", f"{name}/[C]", [logits[0], target[1]], args, F.cross_entropy)
    inputs = [In(logits, strided=True), target]
    family.add("crossEntropy", f"{name}/strided", inputs, args, F.cross_entropy)
    ignored = torch.full((5,), -100)
    inputs = [logits, ignored]
    family.add("crossEntropy", f"{name}/all ignored", inputs, args, F.cross_entropy, grads=False)
    large = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], dtype=dtype)
    inputs = [large, torch.tensor([0, 0])]
    family.add("crossEntropy", f"{name}/large", inputs, args, F.cross_entropy)


def weighted(family, dtype):
    """Class weights, probabilities as targets, weights of what is true."""
    name = dtype_name(dtype)
    rand = Random("weighted")
    logits, target = rand.floats((5, 4), dtype, -4, 4), torch.tensor([0, 3, 1, -100, 2])
    weight = In(rand.floats((4,), dtype, 0.2, 3), grad=False)
    for reduction in REDUCTION:
        for smoothing in (0.0, 0.2):
            fn = lambda x, t, w: F.cross_entropy(
                x, t, w, reduction=reduction, label_smoothing=smoothing
            )
            options = {"weight": ref(2), "labelSmoothing": smoothing, "reduction": reduction}
            label = f"{name}/weight,{reduction},{smoothing}"
            inputs = [logits, target, weight]
            family.add("crossEntropy", label, inputs, [ref(0), ref(1), options], fn, ulps=2)
            soft = rand.floats((5, 4), dtype, 0, 1)
            label = f"{name}/probabilities,{reduction},{smoothing}"
            args = [ref(0), ref(1), options]
            family.add("crossEntropy", label, [logits, soft, weight], args, fn, ulps=2)
        fn = lambda x, t, w: F.nll_loss(x, t, w, reduction=reduction)
        args = [ref(0), ref(1), {"weight": ref(2), "reduction": reduction}]
        label = f"{name}/weight,{reduction}"
        rows = F.log_softmax(logits.double(), 1).to(dtype)
        family.add("nllLoss", label, [rows, target, weight], args, fn, ulps=2)
        y, positive = rand.floats((5, 4), dtype, 0, 1), rand.floats((4,), dtype, 0.2, 3)
        fn = lambda x, y, p, w: F.binary_cross_entropy_with_logits(
            x, y, w, pos_weight=p, reduction=reduction
        )
        options = {"posWeight": ref(2), "weight": ref(3), "reduction": reduction}
        inputs = [logits, In(y, grad=False), In(positive, grad=False), weight]
        args = [ref(0), ref(1), options]
        family.add("bceWithLogits", f"{name}/weights,{reduction}", inputs, args, fn, ulps=2)
    if dtype == torch.float64:
        spatial = rand.floats((2, 4, 3), dtype), rand.floats((2, 4, 3), dtype, 0, 1)
        args = [ref(0), ref(1)]
        label = f"{name}/probabilities,[N, C, d]"
        family.add("crossEntropy", label, list(spatial), args, F.cross_entropy)


def regression(family, dtype):
    name = dtype_name(dtype)
    functions = {
        "mseLoss": F.mse_loss,
        "l1Loss": F.l1_loss,
        "bceWithLogits": F.binary_cross_entropy_with_logits,
    }
    for op, fn in functions.items():
        rand = Random(op)
        x = rand.floats((3, 4), dtype)
        y = rand.floats((3, 4), dtype, 0, 1)
        target = In(y, grad=False)
        for reduction in REDUCTION:
            options = {} if reduction == "mean" else {"reduction": reduction}
            call = lambda x, y: fn(x, y, reduction=reduction)
            args = [ref(0), ref(1), options]
            family.add(op, f"{name}/{reduction}", [x, target], args, call, ulps=2)
        strided = [In(x, strided=True), In(y, strided=True, grad=False)]
        family.add(op, f"{name}/strided", strided, [ref(0), ref(1)], fn, ulps=2)
        if op != "bceWithLogits":
            family.add(op, f"{name}/gradient of target", [x, y], [ref(0), ref(1)], fn, ulps=2)
    large = torch.tensor([-200.0, 200.0, 0.0]).to(dtype)
    target = In(torch.tensor([0.0, 1.0, 1.0]).to(dtype), grad=False)
    fn = functions["bceWithLogits"]
    family.add("bceWithLogits", f"{name}/large", [large, target], [ref(0), ref(1)], fn)
