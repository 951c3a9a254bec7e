// Every operation with inputs to try it on: plain, broadcast, of one element, of 0 dimensions,
// empty. What a test does to all of them is written once, over this table.

import * as mp from "../../lib/index.js";

/** An input of a case: its shape, and the range of its random elements. */
export interface OpInput {
  readonly shape: readonly number[];
  readonly low?: number;
  readonly high?: number;
}

/** One way to call an operation. */
export interface OpUse {
  /** The public name. */
  readonly op: string;
  /** What is particular about this call. */
  readonly label: string;
  readonly inputs: readonly OpInput[];
  /** The call; several outputs come as a list. Indices and masks are made inside. */
  readonly call: (...inputs: mp.Tensor[]) => mp.Tensor | readonly mp.Tensor[];
}

type Call = OpUse["call"];
type Shapes = readonly (readonly number[])[];

const uses: OpUse[] = [];

function use(op: string, label: string, shapes: Shapes, call: Call, low = -2, high = 2): void {
  uses.push({ op, label, inputs: shapes.map((shape) => ({ shape, low, high })), call });
}

const UNARY_SHAPES = [[3, 4], [1], [], [0, 3], [2, 1, 3]];

function unary(op: string, fn: (x: mp.Tensor) => mp.Tensor, low = -2, high = 2): void {
  for (const shape of UNARY_SHAPES) use(op, `[${shape.join()}]`, [shape], (x) => fn(x), low, high);
}

const BINARY_SHAPES: Shapes[] = [
  [
    [3, 4],
    [3, 4],
  ],
  [[3, 1], [4]],
  [[], [2, 3]],
  [[1], [1, 1]],
  [[0, 3], [3]],
];

function binary(op: string, fn: (a: mp.Tensor, b: mp.Tensor) => mp.Tensor, low = -2): void {
  for (const shapes of BINARY_SHAPES) {
    use(op, shapes.map((s) => `[${s.join()}]`).join(" "), shapes, (a, b) => fn(a, b), low, 2);
  }
}

const int64 = { dtype: "int64" } as const;

/** Repeating indices below `bound`, in `shape`. */
function indices(shape: readonly number[], bound: number): mp.Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return mp
    .tensor(
      Array.from({ length: count }, (_, i) => (i * 7 + 2) % bound),
      int64,
    )
    .reshape(shape);
}

/** A checkerboard of bool that broadcasts from `shape`. */
function mask(shape: readonly number[]): mp.Tensor {
  return indices(shape, 2).eq(0);
}

unary("neg", mp.neg);
unary("abs", mp.abs);
unary("exp", mp.exp);
unary("log", mp.log, 0.3, 3);
unary("sqrt", mp.sqrt, 0.3, 3);
unary("rsqrt", mp.rsqrt, 0.5, 3);
unary("reciprocal", mp.reciprocal, 0.5, 3);
unary("tanh", mp.tanh);
unary("sigmoid", mp.sigmoid);
unary("relu", mp.relu);
unary("gelu", (x) => mp.gelu(x));
unary("gelu", (x) => mp.gelu(x, { approximate: "tanh" }));
unary("silu", mp.silu);
unary("erf", mp.erf);
unary("sin", mp.sin);
unary("cos", mp.cos);
unary("clamp", (x) => mp.clamp(x, { min: -0.7, max: 1.1 }));
unary("clamp", (x) => mp.clamp(x, { min: 0.2 }));
unary("to", (x) => mp.to(mp.to(x, "float64"), x.dtype));
unary("clone", mp.clone);
unary("contiguous", mp.contiguous);

binary("add", mp.add);
binary("sub", mp.sub);
binary("mul", mp.mul);
binary("div", mp.div, 0.5);
binary("pow", mp.pow, 0.3);
binary("maximum", mp.maximum);
binary("minimum", mp.minimum);
binary("where", (a, b) => mp.where(mask([3, 1]).reshape([3, 1]).narrow(0, 0, 1), a, b));
for (const op of ["add", "sub", "mul", "div", "maximum", "minimum"] as const) {
  use(op, "number right", [[2, 3]], (x) => mp[op](x, 0.75), 0.5, 2);
  use(op, "number left", [[2, 3]], (x) => mp[op](0.75, x), 0.5, 2);
}
for (const exponent of [0, 1, 2, 3, -1, 0.5]) {
  use("pow", `exponent ${exponent}`, [[2, 3]], (x) => mp.pow(x, exponent), 0.4, 2);
}
use("pow", "base 1.7", [[2, 3]], (x) => mp.pow(1.7, x));
use("where", "numbers", [[2, 3]], (x) =>
  mp.where(mask([2, 3]), x, 0.5).add(mp.where(mask([3]), 2, x)),
);
use("maskedFill", "broadcast", [[2, 3]], (x) => mp.maskedFill(x, mask([3]), 1.5));
use("maskedFill", "of the input", [[3]], (x) => mp.maskedFill(x, mask([2, 3]), -2));

const reductions = {
  sum: mp.sum,
  mean: mp.mean,
  amax: mp.amax,
  amin: mp.amin,
  logsumexp: mp.logsumexp,
};
for (const [op, fn] of Object.entries(reductions)) {
  use(op, "all", [[2, 3]], (x) => fn(x));
  use(op, "one dimension", [[2, 3, 4]], (x) => fn(x, { dim: 1 }));
  use(op, "kept", [[2, 3, 4]], (x) => fn(x, { dim: [0, -1], keepdim: true }));
  use(op, "one element", [[1]], (x) => fn(x, { dim: 0 }));
  use(op, "0-d", [[]], (x) => fn(x));
  use(op, "no rows", [[0, 3]], (x) => fn(x, { dim: 1 }));
}
use("sum", "of nothing", [[0, 3]], (x) => mp.sum(x));
use("variance", "all", [[2, 3]], (x) => mp.variance(x));
use("variance", "population", [[2, 3, 4]], (x) => mp.variance(x, { dim: [0, 2], correction: 0 }));
use("variance", "kept", [[3, 4]], (x) => mp.variance(x, { dim: 1, keepdim: true }));
use("variance", "no rows", [[0, 3]], (x) => mp.variance(x, { dim: 1 }));
for (const op of ["softmax", "logSoftmax"] as const) {
  use(op, "last", [[3, 4]], (x) => mp[op](x));
  use(op, "first", [[3, 4]], (x) => mp[op](x, { dim: 0 }));
  use(op, "one element", [[3, 1]], (x) => mp[op](x));
  use(op, "empty", [[0, 4]], (x) => mp[op](x));
}
use("cumsum", "middle", [[2, 3, 4]], (x) => mp.cumsum(x, 1));
use("cumsum", "0-d", [[]], (x) => mp.cumsum(x, { dim: 0 }));
use("cumsum", "empty", [[0, 3]], (x) => mp.cumsum(x, 0));
use("sort", "last", [[3, 5]], (x) => mp.sort(x).values);
use("sort", "descending", [[3, 5]], (x) => mp.sort(x, { dim: 0, descending: true }).values);
use("sort", "0-d", [[]], (x) => mp.sort(x).values);
use("topk", "largest", [[3, 5]], (x) => mp.topk(x, 2).values);
use("topk", "smallest", [[4, 3]], (x) => mp.topk(x, 3, { dim: 0, largest: false }).values);
use("topk", "none", [[4, 3]], (x) => mp.topk(x, 0).values);
use("topk", "0-d", [[]], (x) => mp.topk(x, 1).values);

use("reshape", "view", [[2, 6]], (x) => mp.reshape(x, [3, -1]));
use("reshape", "copy", [[2, 3, 4]], (x) => mp.reshape(mp.permute(x, [2, 0, 1]), [8, 3]));
use("reshape", "0-d", [[1, 1]], (x) => mp.reshape(x, []));
use("reshape", "empty", [[0, 3]], (x) => mp.reshape(x, [3, 0]));
use("flatten", "some", [[2, 3, 4]], (x) => mp.flatten(x, 1));
use("flatten", "0-d", [[]], (x) => mp.flatten(x));
use("transpose", "negative", [[2, 3, 4]], (x) => mp.transpose(x, -1, 0));
use("permute", "all", [[2, 3, 4]], (x) => mp.permute(x, [1, -1, 0]));
use("expand", "both", [[2, 1]], (x) => mp.expand(x, [3, -1, 4]));
use("expand", "as it is", [[2, 3]], (x) => mp.expand(x, [2, 3]));
use("squeeze", "all", [[1, 3, 1]], (x) => mp.squeeze(x));
use("squeeze", "one", [[1, 3, 1]], (x) => mp.squeeze(x, -1));
use("squeeze", "two", [[1, 3, 1]], (x) => mp.squeeze(x, [0, 1]));
use("unsqueeze", "last", [[2, 3]], (x) => mp.unsqueeze(x, -1));
use("narrow", "middle", [[2, 5]], (x) => mp.narrow(x, 1, 1, 3));
use("narrow", "nothing", [[2, 5]], (x) => mp.narrow(x, 0, 2, 0));
use("slice", "step", [[7, 2]], (x) => mp.slice(x, { dim: 0, start: 1, step: 3 }));
use("slice", "negative", [[2, 5]], (x) => mp.slice(x, 1, -4, -1));
use("slice", "past the end", [[2, 3]], (x) => mp.slice(x, { dim: 1, start: 5 }));
use("select", "negative", [[3, 4]], (x) => mp.select(x, 1, -2));
use("split", "sizes", [[5, 2]], (x) => mp.split(x, [2, 0, 3]));
use("split", "rest", [[2, 5]], (x) => mp.split(x, 2, 1));
use("chunk", "rest", [[5, 2]], (x) => mp.chunk(x, 3));
use(
  "cat",
  "dimension 1",
  [
    [2, 3],
    [2, 1],
    [2, 0],
  ],
  (...x) => mp.cat(x, 1),
);
use("cat", "one", [[2, 3]], (...x) => mp.cat(x));
use("cat", "twice the same", [[2, 3]], (x) => mp.cat([x, x], -1));
use(
  "stack",
  "last",
  [
    [2, 3],
    [2, 3],
  ],
  (...x) => mp.stack(x, -1),
);
use("stack", "0-d", [[], []], (...x) => mp.stack(x));

use("gather", "rows", [[3, 4]], (x) => mp.gather(x, 0, indices([2, 4], 3)));
use("gather", "fewer columns", [[3, 4]], (x) => mp.gather(x, -1, indices([2, 5], 4)));
use("gather", "0-d", [[]], (x) => mp.gather(x, 0, mp.tensor(0, int64)));
use("gather", "none", [[3, 4]], (x) => mp.gather(x, 0, indices([0, 4], 3)));
use("indexSelect", "repeating", [[3, 4]], (x) => mp.indexSelect(x, 1, indices([5], 4)));
use("indexSelect", "one", [[3, 4]], (x) => mp.indexSelect(x, 0, mp.tensor(2, int64)));
use("indexSelect", "none", [[3, 4]], (x) => mp.indexSelect(x, 0, indices([0], 4)));
const scatterAdd: Call = (x, source) => mp.scatterAdd(x, 0, indices([2, 3], 3), source);
use(
  "scatterAdd",
  "repeating",
  [
    [3, 4],
    [2, 3],
  ],
  scatterAdd,
);
use(
  "scatterAdd",
  "part of the source",
  [
    [3, 4],
    [3, 5],
  ],
  scatterAdd,
);
use("embedding", "matrix of ids", [[5, 3]], (w) => mp.embedding(w, indices([2, 4], 5)));
use("embedding", "one id", [[5, 3]], (w) => mp.embedding(w, mp.tensor(1, int64)));

use(
  "matmul",
  "matrices",
  [
    [3, 4],
    [4, 2],
  ],
  (a, b) => mp.matmul(a, b),
);
use(
  "matmul",
  "batches",
  [
    [2, 1, 3, 4],
    [5, 4, 2],
  ],
  (a, b) => mp.matmul(a, b),
);
use("matmul", "vectors", [[4], [4]], (a, b) => mp.matmul(a, b));
use(
  "matmul",
  "empty",
  [
    [0, 4],
    [4, 2],
  ],
  (a, b) => mp.matmul(a, b),
);
use("linear", "bias", [[2, 3, 4], [5, 4], [5]], (x, w, b) => mp.linear(x, w, b));
use("linear", "no bias", [[4], [5, 4]], (x, w) => mp.linear(x, w));
use("layerNorm", "all", [[3, 4], [4], [4]], (x, w, b) => mp.layerNorm(x, [4], w, b));
use("layerNorm", "two dimensions", [[2, 2, 3]], (x) => mp.layerNorm(x, [2, 3]));
use("layerNorm", "empty", [[0, 4], [4]], (x, w) => mp.layerNorm(x, 4, w));
use("rmsNorm", "weight", [[3, 4], [4]], (x, w) => mp.rmsNorm(x, 4, w, { eps: 1e-3 }));
use("rmsNorm", "plain", [[3, 4]], (x) => mp.rmsNorm(x, 4, null, { eps: 1e-3 }));
use("dropout", "p 0.4", [[4, 5]], (x) => {
  mp.manualSeed(3);
  return mp.dropout(x, { p: 0.4 });
});
use("dropout", "evaluation", [[4, 5]], (x) => mp.dropout(x, { training: false }).mul(1));
const attend = mp.scaledDotProductAttention;
use(
  "scaledDotProductAttention",
  "plain",
  [
    [1, 2, 3, 4],
    [1, 2, 5, 4],
    [1, 2, 5, 2],
  ],
  (q, k, v) => attend(q, k, v),
);
use(
  "scaledDotProductAttention",
  "causal",
  [
    [2, 3, 4],
    [2, 3, 4],
    [2, 3, 4],
  ],
  (q, k, v) => attend(q, k, v, { causal: true }),
);
use(
  "scaledDotProductAttention",
  "mask",
  [
    [3, 4],
    [3, 4],
    [3, 4],
    [3, 3],
  ],
  (q, k, v, m) => attend(q, k, v, { mask: m }),
);
use(
  "conv2d",
  "plain",
  [
    [2, 2, 4, 5],
    [3, 2, 2, 3],
  ],
  (x, w) => mp.conv2d(x, w),
);
use("conv2d", "options", [[1, 2, 5, 4], [2, 2, 2, 2], [2]], (x, w, b) =>
  mp.conv2d(x, w, b, { stride: [2, 1], padding: 1, dilation: [1, 2] }),
);
use("conv2d", "groups", [[2, 4, 3, 3], [6, 2, 2, 2], [6]], (x, w, b) =>
  mp.conv2d(x, w, b, { groups: 2 }),
);
use(
  "conv2d",
  "one image",
  [
    [2, 4, 4],
    [2, 2, 3, 3],
  ],
  (x, w) => mp.conv2d(x, w, null, { padding: "same" }),
);
use(
  "conv2d",
  "no images",
  [
    [0, 2, 3, 3],
    [2, 2, 2, 2],
  ],
  (x, w) => mp.conv2d(x, w),
);

const targets = (): mp.Tensor => mp.tensor([1, 3, -100], int64);
for (const reduction of ["mean", "sum", "none"] as const) {
  use("crossEntropy", reduction, [[3, 4]], (x) => mp.crossEntropy(x, targets(), { reduction }));
  use("nllLoss", reduction, [[3, 4]], (x) => mp.nllLoss(x, targets(), { reduction }));
  use(
    "mseLoss",
    reduction,
    [
      [2, 3],
      [2, 3],
    ],
    (x, y) => mp.mseLoss(x, y, { reduction }),
  );
  use(
    "l1Loss",
    reduction,
    [
      [2, 3],
      [2, 3],
    ],
    (x, y) => mp.l1Loss(x, y, { reduction }),
  );
  use(
    "bceWithLogits",
    reduction,
    [
      [2, 3],
      [2, 3],
    ],
    (x, y) => mp.bceWithLogits(x, y, { reduction }),
  );
}
use("crossEntropy", "smoothing", [[3, 4]], (x) =>
  mp.crossEntropy(x, targets(), { labelSmoothing: 0.2 }),
);
use("crossEntropy", "weight", [[3, 4]], (x) =>
  mp.crossEntropy(x, targets(), {
    labelSmoothing: 0.1,
    weight: mp.tensor([1, 0.5, 2, 3]).to(x.dtype),
  }),
);
use("crossEntropy", "spatial", [[2, 3, 4]], (x) => mp.crossEntropy(x, indices([2, 4], 3)));
use(
  "crossEntropy",
  "probabilities",
  [
    [2, 4],
    [2, 4],
  ],
  (x, y) => mp.crossEntropy(x, y, { labelSmoothing: 0.1 }),
);
use("nllLoss", "weight", [[3, 4]], (x) =>
  mp.nllLoss(x, targets(), { weight: mp.tensor([1, 0.5, 2, 3]).to(x.dtype) }),
);
use("bceWithLogits", "weights", [[2, 3], [2, 3], [3], [2, 1]], (x, y, posWeight, weight) =>
  mp.bceWithLogits(x, y, { posWeight, weight }),
);

/** Every operation that has a gradient, in all its uses. */
export const OP_USES: readonly OpUse[] = uses;

/** Random inputs of a use, the same each time. */
export function inputsOf(entry: OpUse, dtype: mp.DType = "float64"): mp.Tensor[] {
  const state = mp.getRandomState();
  mp.manualSeed(17);
  const inputs = entry.inputs.map(({ shape, low = -2, high = 2 }) =>
    mp.tidy(() =>
      mp
        .rand([...shape], { dtype: "float64" })
        .mul(high - low)
        .add(low)
        .to(dtype),
    ),
  );
  mp.setRandomState(state);
  return inputs;
}

/** The outputs of a use as a list. */
export function outputsOf(entry: OpUse, inputs: readonly mp.Tensor[]): mp.Tensor[] {
  const result = entry.call(...inputs);
  return result instanceof mp.Tensor ? [result] : [...result];
}

/** All outputs of a use as one vector, for what takes one output. */
export function flatOutput(entry: OpUse, inputs: readonly mp.Tensor[]): mp.Tensor {
  return mp.cat(outputsOf(entry, inputs).map((output) => output.reshape([-1])));
}

/** A tensor of the same elements whose memory has its dimensions reversed. */
export function strided(x: mp.Tensor): mp.Tensor {
  const reversed = x.shape.map((_, dim) => x.shape.length - 1 - dim);
  return x.permute(reversed).contiguous().permute(reversed);
}
