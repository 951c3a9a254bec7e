"""Writes test/golden/optim/*.json: trajectories of optimizers, learning rates, clipped gradients.

    python3 test/golden/generate_optim.py

trajectories.json  {"torch", "params": [tensor, ...], "grads": [[values or null per parameter] per
                   step], "after": [steps], "cases": [{name, optimizer, dtype, options (per group
                   where a list), params: [[values per parameter] for each of "after"]}, ...]}
                   Parameters and gradients are in float64 and rounded to the dtype of the case. torch
                   computes 16-bit cases with a rounding after each of its operations.
schedules.json     {"torch", "steps", "cases": [{name, schedule, options, lr, lrs}, ...]}: learning
                   rate after each step. Those of Hugging Face's transformers by its formulas.
clipping.json      {"torch", "cases": [{name, dtype, grads, norm options or value, norm, clipped}]}
"""

import itertools
import json
import math
import os

import torch

from case import Random, dtype_name, number

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "optim")
STEPS = 7
AFTER = (1, 2, 4, 7)
SHAPES = ((2, 3), (3,))
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def values(tensor):
    flat = tensor.detach().reshape(-1)
    if tensor.dtype == torch.bfloat16:
        flat = flat.float()
    return [number(v, tensor.dtype) for v in flat.tolist()]


def write(name, content, cases):
    path = os.path.join(OUT, f"{name}.json")
    head = json.dumps({"torch": torch.__version__, **content}, separators=(",", ":"))
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{head[:-1]},"cases":[\n{rows}\n]}}\n')
    print(f"{path}: {len(cases)} cases, {os.path.getsize(path)} bytes")


# ---- Trajectories ----


def sgd_options():
    for momentum, decay, maximize in itertools.product((0, 0.9), (0, 0.1), (False, True)):
        variants = [{}]
        if momentum:
            variants = [{"momentum": momentum}]
            variants += [{"momentum": momentum, "dampening": 0.3}]
            variants += [{"momentum": momentum, "nesterov": True}]
        for variant in variants:
            options = {"lr": 0.1, **variant}
            if decay:
                options["weight_decay"] = decay
            if maximize:
                options["maximize"] = True
            yield options


def adam_options():
    for decay, amsgrad, maximize in itertools.product((0, 0.1), (False, True), (False, True)):
        options = {"lr": 0.05, "weight_decay": decay}
        if amsgrad:
            options["amsgrad"] = True
        if maximize:
            options["maximize"] = True
        yield options
    yield {}
    yield {"lr": 0.05, "betas": [0.3, 0.6], "eps": 0.01}
    yield [{"lr": 0.1}, {"lr": 0.01, "weight_decay": 0.5, "eps": 1e-3}]


NAMES = {"weight_decay": "weightDecay"}


def camel(options):
    if isinstance(options, list):
        return [camel(group) for group in options]
    return {NAMES.get(key, key): value for key, value in options.items()}


def trajectory(optimizer, options, dtype, params, grads):
    leaves = [p.to(dtype).clone().requires_grad_() for p in params]
    if isinstance(options, list):
        groups = [{"params": [leaf], **group} for leaf, group in zip(leaves, options)]
        opt = optimizer(groups, foreach=False)
    else:
        opt = optimizer(leaves, foreach=False, **options)
    seen = []
    for step in range(1, STEPS + 1):
        for leaf, grad in zip(leaves, grads[step - 1]):
            leaf.grad = None if grad is None else grad.to(dtype).clone()
        opt.step()
        if step in AFTER:
            seen.append([values(leaf) for leaf in leaves])
    return {
        "name": f"{optimizer.__name__}/{dtype_name(dtype)}/{camel(options)}".replace("'", ""),
        "optimizer": optimizer.__name__,
        "dtype": dtype_name(dtype),
        "options": camel(options),
        "params": seen,
    }


def trajectories():
    rand = Random("trajectories")
    params = [rand.floats(shape, torch.float64, -1, 1) for shape in SHAPES]
    grads = [[rand.floats(shape, torch.float64, -1, 1) for shape in SHAPES] for _ in range(STEPS)]
    # The second parameter starts late and pauses once; one gradient is all zeros.
    grads[0][1] = grads[4][1] = None
    grads[2][0] = torch.zeros(SHAPES[0], dtype=torch.float64)
    sets = ((torch.optim.SGD, sgd_options), (torch.optim.Adam, adam_options))
    cases = [
        trajectory(optimizer, options, dtype, params, grads)
        for optimizer, all_options in (*sets, (torch.optim.AdamW, adam_options))
        for options in all_options()
        for dtype in DTYPES
    ]
    content = {
        "params": [{"shape": list(p.shape), "values": values(p)} for p in params],
        "grads": [[None if g is None else values(g) for g in step] for step in grads],
        "after": list(AFTER),
    }
    write("trajectories", content, cases)


# ---- Schedules ----


def warmup(step, warm):
    return step / max(1, warm) if step < warm else None


def linear(step, warm, total):
    rest = max(0.0, (total - step) / max(1, total - warm))
    return warmup(step, warm) if step < warm else rest


def cosine(step, warm, total, cycles=0.5, min_rate=0.0):
    if step < warm:
        return warmup(step, warm)
    progress = (step - warm) / max(1, total - warm)
    factor = 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress))
    return max(0, factor * (1 - min_rate) + min_rate)


def hard_restarts(step, warm, total, cycles=1):
    if step < warm:
        return warmup(step, warm)
    progress = (step - warm) / max(1, total - warm)
    if progress >= 1.0:
        return 0.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((cycles * progress) % 1.0))))


def polynomial(step, warm, total, lr_init, lr_end=1e-7, power=1.0):
    if step < warm:
        return warmup(step, warm)
    if step > total:
        return lr_end / lr_init
    remaining = 1 - (step - warm) / (total - warm)
    return ((lr_init - lr_end) * remaining**power + lr_end) / lr_init


def inverse_sqrt(step, warm, timescale):
    if step < warm:
        return warmup(step, warm)
    return 1.0 / math.sqrt((step + timescale - warm) / timescale)


def schedules():
    steps, lr = 24, 0.02
    at = lambda **options: {"warmupSteps": 4, "totalSteps": 20, **options}
    by_lambda = [
        ("constant", {}, lambda s: 1),
        ("constant", {"warmupSteps": 5}, lambda s: 1 if s >= 5 else warmup(s, 5)),
        ("linear", {"totalSteps": 20}, lambda s: linear(s, 0, 20)),
        ("linear", at(), lambda s: linear(s, 4, 20)),
        ("linear", {"warmupSteps": 9, "totalSteps": 9}, lambda s: linear(s, 9, 9)),
        ("cosine", at(), lambda s: cosine(s, 4, 20)),
        ("cosine", at(cycles=1.5), lambda s: cosine(s, 4, 20, 1.5)),
        ("cosine", at(minLrRate=0.1), lambda s: cosine(s, 4, 20, 0.5, 0.1)),
        ("cosineWithHardRestarts", at(), lambda s: hard_restarts(s, 4, 20)),
        ("cosineWithHardRestarts", at(cycles=3), lambda s: hard_restarts(s, 4, 20, 3)),
        ("polynomial", at(), lambda s: polynomial(s, 4, 20, lr)),
        ("polynomial", at(lrEnd=0.001, power=2), lambda s: polynomial(s, 4, 20, lr, 0.001, 2)),
        ("inverseSqrt", {"warmupSteps": 4}, lambda s: inverse_sqrt(s, 4, 4)),
        ("inverseSqrt", {}, lambda s: inverse_sqrt(s, 0, 10_000)),
        ("inverseSqrt", {"warmupSteps": 4, "timescale": 7}, lambda s: inverse_sqrt(s, 4, 7)),
    ]
    torchs = torch.optim.lr_scheduler
    by_torch = [
        ("stepLR", {"stepSize": 5, "gamma": 0.5}, lambda o: torchs.StepLR(o, 5, 0.5)),
        ("multiStepLR", {"milestones": [3, 10]}, lambda o: torchs.MultiStepLR(o, [3, 10])),
        ("exponentialLR", {"gamma": 0.9}, lambda o: torchs.ExponentialLR(o, 0.9)),
        (
            "cosineAnnealingLR",
            {"tMax": 10, "etaMin": 0.002},
            lambda o: torchs.CosineAnnealingLR(o, 10, 0.002),
        ),
    ]
    makers = [
        (name, options, lambda o, fn=fn: torchs.LambdaLR(o, fn)) for name, options, fn in by_lambda
    ]
    cases = []
    for name, options, make in makers + by_torch:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
        scheduler = make(optimizer)
        lrs = [optimizer.param_groups[0]["lr"]]
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            lrs.append(optimizer.param_groups[0]["lr"])
        case = {"name": f"{name} {options}".replace("'", ""), "schedule": name}
        cases.append({**case, "options": options, "lr": lr, "lrs": lrs})
    write("schedules", {"steps": steps}, cases)


# ---- Clipping ----


def clipping():
    rand = Random("clipping")
    clean = [rand.floats(shape, torch.float64) for shape in SHAPES]
    nan = [clean[0].clone(), clean[1].clone()]
    nan[0][0, 1] = math.nan
    inf = [clean[0].clone(), clean[1].clone()]
    inf[1][2] = -math.inf
    norms = [
        ("2", clean, 1.5, 2.0),
        ("2, already small", clean, 100.0, 2.0),
        ("2, to 0", clean, 0.0, 2.0),
        ("1", clean, 1.5, 1.0),
        ("3", clean, 1.5, 3.0),
        ("0.5", clean, 1.5, 0.5),
        ("inf", clean, 1.5, math.inf),
        ("2, NaN", nan, 1.5, 2.0),
        ("inf, NaN", nan, 1.5, math.inf),
        ("2, infinite", inf, 1.5, 2.0),
        ("inf, infinite", inf, 1.5, math.inf),
        ("2, unbounded", clean, math.inf, 2.0),
    ]
    cases = []
    text = lambda x: number(x, torch.float64)
    for dtype in DTYPES:
        for label, grads, bound, kind in norms:
            leaves = [torch.zeros(g.shape, dtype=dtype, requires_grad=True) for g in grads]
            for leaf, grad in zip(leaves, grads):
                leaf.grad = grad.to(dtype).clone()
            norm = torch.nn.utils.clip_grad_norm_(leaves, bound, kind)
            case = {"name": f"norm {label}/{dtype_name(dtype)}", "dtype": dtype_name(dtype)}
            case["grads"] = [values(g) for g in grads]
            case |= {"maxNorm": text(bound), "normType": text(kind), "norm": text(norm)}
            case["clipped"] = [values(leaf.grad) for leaf in leaves]
            cases.append(case)
        for label, grads, bound in (("2", clean, 2.0), ("NaN", nan, 1.25), ("infinite", inf, 1)):
            leaves = [torch.zeros(g.shape, dtype=dtype, requires_grad=True) for g in grads]
            for leaf, grad in zip(leaves, grads):
                leaf.grad = grad.to(dtype).clone()
            torch.nn.utils.clip_grad_value_(leaves, bound)
            case = {"name": f"value {label}/{dtype_name(dtype)}", "dtype": dtype_name(dtype)}
            case |= {"grads": [values(g) for g in grads], "clipValue": bound}
            case["clipped"] = [values(leaf.grad) for leaf in leaves]
            cases.append(case)
    write("clipping", {"shapes": [list(s) for s in SHAPES]}, cases)


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    trajectories()
    schedules()
    clipping()
