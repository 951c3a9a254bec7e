"""Writes test/golden/nn.json: modules, computed by torch.

    python3 test/golden/generate_nn.py

{"torch": version, "cases": [case, ...]}. A case has

  name, module  the name of the case, and of the module in the namespace nn
  args          arguments of its constructor; all in float64
  state         its state dictionary, in torch's order
  training      whether it trains or evaluates; there is no dropout
  inputs        tensors {dtype, shape, values, grad?}
  call          the arguments of forward; {"$": i} stands for input i, at any depth
  outputs       expected tensors, null where none is returned
  gradOutputs   gradients of the floating outputs
  grads         expected gradients of the inputs with "grad", and by name of the parameters
  after         the buffers afterwards, where they change
"""

import json
import os

import torch
from torch import nn

from case import HERE, In, Random, encode, ref

F64 = torch.float64
CASES = []


def tensors_of(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def add(label, name, args, module, inputs, call, forward, *, training=True):
    """`module` is torch's, `forward` calls it with the inputs as tensors."""
    case_name = f"{name}/{label}"
    rand = Random(case_name)
    module = module.double().train(training)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.dtype == F64:
                low, high = (0.5, 1.5) if "var" in key else (-0.8, 0.8)
                tensor.copy_(rand.floats(tensor.shape, F64, low, high))
    inputs = [x if isinstance(x, In) else In(x) for x in inputs]
    leaves = [x.leaf() for x in inputs]
    case = {
        "name": case_name,
        "module": name,
        "args": args,
        "state": {key: encode(value) for key, value in module.state_dict().items()},
        "training": training,
        "inputs": [x.encode() for x in inputs],
        "call": call,
    }
    outputs = tensors_of(forward(module, *leaves))
    case["outputs"] = [None if y is None else encode(y) for y in outputs]
    active = [y for y in outputs if y is not None and y.requires_grad]
    given = [rand.floats(y.shape, F64, -1, 1) for y in active]
    case["gradOutputs"] = [encode(g) for g in given]
    parameters = dict(module.named_parameters())
    wanted = [leaf for leaf in leaves if leaf.requires_grad] + list(parameters.values())
    grads = torch.autograd.grad(active, wanted, given, allow_unused=True) if wanted else []
    zeros = [torch.zeros_like(w) if g is None else g for g, w in zip(grads, wanted)]
    count = len(wanted) - len(parameters)
    case["grads"] = {
        "inputs": [encode(g) for g in zeros[:count]],
        "parameters": {key: encode(g) for key, g in zip(parameters, zeros[count:])},
    }
    buffers = dict(module.named_buffers())
    if training and buffers:
        case["after"] = {key: encode(value) for key, value in buffers.items()}
    CASES.append(case)


def one(label, name, args, module, shape, **options):
    """A module of one input."""
    x = shape if isinstance(shape, In) else Random(f"{name}/{label}/x").floats(shape, F64)
    add(label, name, args, module, [x], [ref(0)], lambda m, x: m(x), **options)


def layers():
    one("bias", "Linear", [5, 3], nn.Linear(5, 3), (2, 4, 5))
    one("no-bias", "Linear", [5, 3, {"bias": False}], nn.Linear(5, 3, bias=False), (5,))
    ids = In(torch.tensor([[1, 0, 6], [2, 2, 1]]))
    one("plain", "Embedding", [7, 3], nn.Embedding(7, 3), ids)
    padded = nn.Embedding(7, 3, padding_idx=2)
    one("padding", "Embedding", [7, 3, {"paddingIdx": 2}], padded, ids)
    last = nn.Embedding(7, 3, padding_idx=-1)
    one("padding-from-end", "Embedding", [7, 3, {"paddingIdx": -1}], last, ids)
    one("last", "LayerNorm", [4], nn.LayerNorm(4), (2, 3, 4))
    one("two", "LayerNorm", [[3, 4], {"eps": 0.1}], nn.LayerNorm([3, 4], eps=0.1), (2, 3, 4))
    plain = nn.LayerNorm(4, elementwise_affine=False)
    one("plain", "LayerNorm", [4, {"elementwiseAffine": False}], plain, (2, 4))
    one("basic", "Conv2d", [2, 3, 3], nn.Conv2d(2, 3, 3), (2, 2, 5, 4))
    options = {"stride": [2, 1], "padding": 1, "dilation": [1, 2], "groups": 2}
    conv = nn.Conv2d(2, 4, (3, 2), **{k: tuple(v) if isinstance(v, list) else v
                                      for k, v in options.items()})
    one("options", "Conv2d", [2, 4, [3, 2], options], conv, (2, 2, 6, 5))
    same = nn.Conv2d(1, 2, 3, padding="same", bias=False)
    one("same", "Conv2d", [1, 2, 3, {"padding": "same", "bias": False}], same, (1, 1, 4, 4))


def activations():
    for name in ("ReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "Identity", "Flatten"):
        one("plain", name, [], getattr(nn, name)(), (2, 3, 2))
    one("tanh", "GELU", [{"approximate": "tanh"}], nn.GELU(approximate="tanh"), (2, 3))
    one("dim", "Softmax", [1], nn.Softmax(1), (2, 3, 2))
    one("dim", "LogSoftmax", [{"dim": -1}], nn.LogSoftmax(-1), (2, 3))
    one("range", "Flatten", [{"startDim": 0, "endDim": 1}], nn.Flatten(0, 1), (2, 3, 2))


def batch_norms():
    one("train", "BatchNorm1d", [3], nn.BatchNorm1d(3), (5, 3))
    one("train-length", "BatchNorm1d", [3, {"momentum": 0.3}], nn.BatchNorm1d(3, momentum=0.3),
        (2, 3, 4))
    one("eval", "BatchNorm1d", [3], nn.BatchNorm1d(3), (2, 3), training=False)
    one("train", "BatchNorm2d", [2, {"eps": 0.01}], nn.BatchNorm2d(2, eps=0.01), (2, 2, 3, 2))
    one("cumulative", "BatchNorm2d", [2, {"momentum": None}], nn.BatchNorm2d(2, momentum=None),
        (2, 2, 2, 2))
    one("plain", "BatchNorm2d", [2, {"affine": False}], nn.BatchNorm2d(2, affine=False),
        (2, 2, 3, 1))
    untracked = nn.BatchNorm2d(2, track_running_stats=False)
    one("untracked-eval", "BatchNorm2d", [2, {"trackRunningStats": False}], untracked,
        (2, 2, 3, 1), training=False)


def attention(label, options, shapes, masks, flags, *, torch_options, training=True):
    """`masks` by torch's name; `flags` are torch's, for forward."""
    rand = Random(f"attention/{label}")
    names = {"key_padding_mask": "keyPaddingMask", "attn_mask": "attnMask",
             "need_weights": "needWeights", "average_attn_weights": "averageAttnWeights"}
    inputs = [rand.floats(shape, F64) for shape in shapes]
    call = [ref(i) for i in range(len(inputs))]
    call += [call[-1]] * (3 - len(call))
    extra = {names[key]: value for key, value in flags.items()}
    for key, mask in masks.items():
        extra[names[key]] = ref(len(inputs))
        inputs.append(In(mask, grad=False))
    count = len(shapes)

    def forward(module, *tensors):
        q, k, v = list(tensors[:count]) + [tensors[count - 1]] * (3 - count)
        return module(q, k, v, **dict(zip(masks, tensors[count:])), **flags)

    add(label, "MultiheadAttention", [6, 2, options], nn.MultiheadAttention(6, 2, **torch_options),
        inputs, call + [extra], forward, training=training)


def attentions():
    rand = Random("masks")
    hidden = torch.tensor([[False, False, True, False], [False, True, True, False]])
    blocked = torch.ones(3, 4, dtype=torch.bool).triu(2)
    attention("self", {}, [(4, 2, 6)], {}, {}, torch_options={})
    attention("eval", {}, [(4, 2, 6)], {}, {"need_weights": False}, torch_options={},
              training=False)
    attention("cross", {"batchFirst": True, "bias": False}, [(2, 3, 6), (2, 4, 6)],
              {"key_padding_mask": hidden}, {"average_attn_weights": False},
              torch_options={"batch_first": True, "bias": False})
    attention("three", {}, [(3, 2, 6), (4, 2, 6), (4, 2, 6)], {"attn_mask": blocked},
              {"need_weights": False}, torch_options={})
    attention("floats", {}, [(3, 2, 6), (4, 2, 6)], {"attn_mask": rand.floats((3, 4), F64)}, {},
              torch_options={})
    attention("heads", {}, [(3, 2, 6), (4, 2, 6)],
              {"attn_mask": rand.floats((4, 3, 4), F64), "key_padding_mask": hidden},
              {"need_weights": False}, torch_options={})
    attention("both", {}, [(3, 2, 6), (4, 2, 6)],
              {"attn_mask": blocked, "key_padding_mask": hidden}, {}, torch_options={})
    attention("widths", {"kdim": 4, "vdim": 5}, [(3, 2, 6), (4, 2, 4), (4, 2, 5)], {}, {},
              torch_options={"kdim": 4, "vdim": 5})
    attention("single", {}, [(3, 6), (4, 6)], {"key_padding_mask": hidden[0]}, {},
              torch_options={})


def encoder(label, options, torch_options, masks, training=True):
    rand = Random(f"encoder/{label}")
    shape = (2, 3, 6) if torch_options.get("batch_first") else (3, 2, 6)
    names = {"src_mask": "srcMask", "src_key_padding_mask": "srcKeyPaddingMask"}
    inputs = [rand.floats(shape, F64)] + [In(mask, grad=False) for mask in masks.values()]
    extra = {names[key]: ref(i + 1) for i, key in enumerate(masks)}

    def forward(module, x, *tensors):
        return module(x, **dict(zip(masks, tensors)))

    module = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, **torch_options)
    args = [6, 2, {"dimFeedforward": 8, "dropout": 0, **options}]
    add(label, "TransformerEncoderLayer", args, module, inputs, [ref(0), extra], forward,
        training=training)


def encoders():
    causal = torch.ones(3, 3, dtype=torch.bool).triu(1)
    encoder("post", {}, {}, {"src_mask": causal})
    encoder("pre", {"activation": "gelu", "normFirst": True, "batchFirst": True},
            {"activation": "gelu", "norm_first": True, "batch_first": True},
            {"src_key_padding_mask": torch.tensor([[False, False, True], [False, False, False]])})


def losses():
    rand = Random("losses")
    scores, target = rand.floats((4, 3), F64), In(torch.tensor([2, 0, -100, 1]), grad=False)
    other = In(rand.floats((4, 3), F64, 0, 1), grad=False)

    def loss(label, name, args, module, inputs):
        add(label, name, args, module, inputs, [ref(0), ref(1)], lambda m, x, y: m(x, y))

    loss("plain", "CrossEntropyLoss", [], nn.CrossEntropyLoss(), [scores, target])
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum", ignore_index=0)
    options = {"labelSmoothing": 0.2, "reduction": "sum", "ignoreIndex": 0}
    inside = In(torch.tensor([2, 0, 1, 1]), grad=False)
    loss("options", "CrossEntropyLoss", [options], smooth, [scores, inside])
    loss("plain", "NLLLoss", [], nn.NLLLoss(), [scores, target])
    for name in ("MSELoss", "L1Loss", "BCEWithLogitsLoss"):
        loss("plain", name, [], getattr(nn, name)(), [scores, other])
        none = getattr(nn, name)(reduction="none")
        loss("none", name, [{"reduction": "none"}], none, [scores, other])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in (layers, activations, batch_norms, attentions, encoders, losses):
        family()
    path = os.path.join(HERE, "nn.json")
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in CASES)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{"torch":"{torch.__version__}","cases":[\n{rows}\n]}}\n')
    print(f"{path}: {len(CASES)} cases, {os.path.getsize(path)} bytes")
