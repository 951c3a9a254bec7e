"""Reference cases of single operations: how one is computed with torch and written down.

A family is a JSON file {"torch": version, "cases": [case, ...]}. A case has

  name         unique in its file, also the seed of its random numbers
  op           name exported by the library
  inputs       tensors {dtype, shape, values (row-major), strided?, grad?}: with "strided" the values
               lie in memory with all dimensions reversed, with "grad" a gradient is wanted
  args         the arguments of the call; {"$": i} stands for input i, at any depth
  outputs      expected tensors {dtype, shape, values}, in the order torch returns them
  gradOutputs  gradients of the outputs (null for outputs that are not differentiable); absent where
               the case has no gradients
  grads        expected gradients, one for each input, null for those without "grad"
  exact        true where elements are only moved or selected: they must be equal
  ulps         units in the last place allowed for 16-bit outputs (default 1)

NaN and infinities are strings, as are int64 values that a JavaScript number cannot hold.

16-bit floats are computed by torch in float64 and rounded once: the library computes in float32 and
rounds once, and torch in float32 would cancel where the library need not. Everything else is computed
by torch in its own dtype, except where a case asks for float64.
"""

import functools
import json
import math
import os
import zlib

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
HALVES = (torch.float16, torch.bfloat16)
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)
ALL = FLOATS + INTEGERS + (torch.bool,)


def dtype_name(dtype):
    return str(dtype).split(".")[1]


def number(value, dtype):
    """The shortest text that reads back as the same element."""
    if dtype == torch.bool:
        return int(value)
    if not dtype.is_floating_point:
        return int(value) if abs(int(value)) <= 2**53 else str(int(value))
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if dtype != torch.float64:
        value = float(repr(np.float32(value)))
    return int(value) if value.is_integer() and 0 < abs(value) < 1e6 else value


def encode(tensor):
    flat = tensor.detach().reshape(-1)
    if tensor.dtype in HALVES:
        flat = flat.float()
    values = [number(v, tensor.dtype) for v in flat.tolist()]
    return {"dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape), "values": values}


class In:
    """An input: a tensor, whether its memory is reversed, and whether a gradient is wanted."""

    def __init__(self, tensor, strided=False, grad=None):
        self.tensor = tensor
        self.strided = strided and tensor.dim() > 1
        self.grad = tensor.dtype.is_floating_point if grad is None else grad

    def encode(self):
        out = encode(self.tensor)
        if self.strided:
            out["strided"] = True
        if self.grad:
            out["grad"] = True
        return out

    def leaf(self, wide=False):
        widened = self.tensor.dtype in HALVES or (wide and self.tensor.dtype in FLOATS)
        values = self.tensor.double() if widened else self.tensor
        return values.detach().clone().requires_grad_(self.grad)


def ref(index):
    return {"$": index}


class Random:
    """Random numbers of one case, the same in every run."""

    def __init__(self, name):
        self.generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def floats(self, shape, dtype, low=-3.0, high=3.0):
        values = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        # Four decimals keep the files short.
        return (values * (high - low) + low).mul(1e4).round().div(1e4).to(dtype)

    def ints(self, low, high, shape, dtype=torch.int64):
        return torch.randint(low, high, tuple(shape), generator=self.generator).to(dtype)

    def of(self, shape, dtype, low=-3.0, high=3.0):
        if dtype.is_floating_point:
            return self.floats(shape, dtype, low, high)
        if dtype == torch.bool:
            return self.ints(0, 2, shape, dtype)
        return self.ints(0 if dtype == torch.uint8 or low >= 0 else -9, 10, shape, dtype)


def natural_dtype(inputs):
    """The floating dtype in which the inputs meet, as torch promotes them; None without any."""
    floating = [x.tensor for x in inputs if x.tensor.dtype in FLOATS]
    group = [x.dtype for x in floating if x.dim() > 0] or [x.dtype for x in floating]
    return functools.reduce(torch.promote_types, group) if group else None


def rounded(result, dtype):
    """What was computed in float64 on behalf of a narrower dtype, in that dtype."""
    return result.to(dtype) if dtype is not None and result.dtype == torch.float64 else result


class Family:
    def __init__(self, name):
        self.name = name
        self.cases = []
        self.names = set()

    def add(
        self,
        op,
        label,
        inputs,
        args,
        fn,
        *,
        grads=True,
        exact=False,
        ulps=None,
        narrow=True,
        wide=False,
    ):
        """Computes a case: `fn` takes the tensors of `inputs` and gives one or several.

        With `narrow`, results of 16-bit inputs are rounded to the dtype of the inputs. With `wide`,
        float32 inputs are computed in float64 too.
        """
        name = f"{op}/{label}"
        assert name not in self.names, name
        self.names.add(name)
        inputs = [x if isinstance(x, In) else In(x) for x in inputs]
        if not grads:
            for x in inputs:
                x.grad = False
        leaves = [x.leaf(wide) for x in inputs]
        result = fn(*leaves)
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        shown = [rounded(y, natural_dtype(inputs)) if narrow else y for y in outputs]
        case = {
            "name": name,
            "op": op,
            "inputs": [x.encode() for x in inputs],
            "args": args,
            "outputs": [encode(y) for y in shown],
        }
        if exact:
            case["exact"] = True
        if ulps:
            case["ulps"] = ulps
        if any(x.grad for x in inputs) and any(y.requires_grad for y in outputs):
            self.gradients(case, name, inputs, leaves, outputs, shown)
        else:
            for x in case["inputs"]:
                x.pop("grad", None)
        self.cases.append(case)

    def gradients(self, case, name, inputs, leaves, outputs, shown):
        rand = Random(name + "/grad")
        given = [
            rand.floats(y.shape, s.dtype, -1, 1) if y.requires_grad else None
            for y, s in zip(outputs, shown)
        ]
        active = [(y, g.to(y.dtype)) for y, g in zip(outputs, given) if g is not None]
        wanted = [leaf for leaf, x in zip(leaves, inputs) if x.grad]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in active], wanted, [g for _, g in active], allow_unused=True
            )
        )
        case["gradOutputs"] = [None if g is None else encode(g) for g in given]
        case["grads"] = []
        for leaf, x in zip(leaves, inputs):
            grad = next(found) if x.grad else None
            if x.grad and grad is None:
                grad = torch.zeros_like(leaf)
            case["grads"].append(None if grad is None else encode(grad.to(x.tensor.dtype)))

    def write(self):
        path = os.path.join(HERE, "ops", f"{self.name}.json")
        rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in self.cases)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'{{"torch":"{torch.__version__}","cases":[\n{rows}\n]}}\n')
        print(f"{path}: {len(self.cases)} cases, {os.path.getsize(path)} bytes")


def float_variants(rand, shapes, low=-3.0, high=3.0, dtypes=FLOATS):
    """(label, tensor or In) over the float dtypes: every shape in float64, some in the others."""
    for dtype in dtypes:
        for index, shape in enumerate(shapes):
            if dtype != torch.float64 and index > 1:
                break
            label = f"{dtype_name(dtype)}/{'x'.join(map(str, shape)) or '0-d'}"
            yield label, In(rand.floats(shape, dtype, low, high))
        if len(shapes[0]) > 1:
            label = f"{dtype_name(dtype)}/strided"
            yield label, In(rand.floats(shapes[0], dtype, low, high), strided=True)
