// Models and batches that the tests of Fabric share.

import * as mp from "../../lib/index.js";

/** Two layers; notes the dtypes that its forward pass sees. */
export class Net extends mp.nn.Module {
  readonly first: mp.nn.Linear;
  readonly norm: mp.nn.LayerNorm;
  readonly second: mp.nn.Linear;
  seen: Record<string, mp.DType> = {};

  constructor(width = 8) {
    super();
    this.first = new mp.nn.Linear(4, width);
    this.norm = new mp.nn.LayerNorm([width]);
    this.second = new mp.nn.Linear(width, 3);
    this.registerBuffer("offset", mp.zeros([3]));
  }

  declare readonly offset: mp.Tensor;

  override forward(x: mp.Tensor): mp.Tensor {
    const hidden = this.first.forward(x);
    const normed = this.norm.forward(hidden);
    const out = this.second.forward(mp.gelu(normed));
    this.seen = {
      input: x.dtype,
      parameter: this.first.weight.dtype,
      hidden: hidden.dtype,
      normed: normed.dtype,
      out: out.dtype,
    };
    return mp.add(out, this.offset);
  }
}

/** A model made with a seed. */
export function makeNet(seed = 7): Net {
  mp.manualSeed(seed);
  return new Net();
}

/** Inputs and labels of step `i`. */
export function batch(i: number): { x: mp.Tensor; labels: mp.Tensor } {
  const { seed, offset } = mp.getRandomState();
  mp.manualSeed(1000 + i);
  const x = mp.randn([6, 4]);
  const labels = mp.randint(0, 3, [6]);
  mp.setRandomState({ seed, offset });
  return { x, labels };
}

/** The values of all parameters. */
export function weightsOf(module: mp.nn.Module): unknown[] {
  return module.parameters().map((parameter) => parameter.toArray());
}
