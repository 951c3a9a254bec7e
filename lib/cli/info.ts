// `mixprec info`: what there is to compute with.

import { readEnvironment, type Environment } from "./environment.js";
import { writeLine, type Terminal } from "./terminal.js";

/** What `mixprec info` takes. */
export interface InfoOptions {
  readonly json?: true;
}

const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/** The lines of the text form: a name and a value each. */
export function describeEnvironment(environment: Environment): [name: string, value: string][] {
  const { systemMemory, cudaDevices } = environment;
  const cuda = cudaDevices.map(
    ({ name, computeCapability, totalMemory }, index): [string, string] => [
      `cuda:${index}`,
      `${name}, compute capability ${computeCapability}, ${gibibytes(totalMemory)}`,
    ],
  );
  return [
    ["mixprec", environment.mixprec],
    ["node", environment.node],
    ["platform", environment.platform],
    ["processor", environment.processor],
    ["cores", String(environment.cores)],
    ["instruction set", environment.isa],
    ["threads", String(environment.threads)],
    ["float32 matmul", environment.float32MatmulPrecision],
    ["system memory", `${gibibytes(systemMemory.total)}, ${gibibytes(systemMemory.free)} free`],
    [
      "cpu tensors",
      `${gibibytes(environment.allocated)}, ${gibibytes(environment.reserved)} reserved`,
    ],
    ...(cuda.length > 0 ? cuda : [["cuda", "no device"] as [string, string]]),
  ];
}

/** Runs the command. */
export function info(options: InfoOptions, terminal: Terminal): void {
  const environment = readEnvironment();
  if (options.json === true) {
    terminal.stdout.write(`${JSON.stringify(environment, null, 2)}\n`);
    return;
  }
  const lines = describeEnvironment(environment);
  const width = Math.max(...lines.map(([name]) => name.length));
  for (const [name, value] of lines) writeLine(terminal.stdout, `${name.padEnd(width)}  ${value}`);
}
