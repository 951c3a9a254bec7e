// Checking a state dictionary against the tensors it is to be loaded into, and writing it.

import { noGrad } from "../core/context.js";
import { Tensor } from "../core/tensor.js";
import { isFloating } from "../dtype.js";
import { CheckpointError, describe } from "../errors.js";
import { copyFrom, to } from "../ops/index.js";
import { formatShape, sameShape } from "../shape.js";

/** Tensors by name; the names are those of torch. */
export type StateDict = Record<string, Tensor>;

/** Which keys of a state dictionary and of a module have no counterpart. */
export interface LoadResult {
  /** Those the module has and the dictionary lacks. */
  readonly missingKeys: string[];
  /** Those the dictionary has and the module lacks. */
  readonly unexpectedKeys: string[];
}

const MAX_LISTED = 10;

function list(keys: readonly string[]): string {
  const shown = keys.slice(0, MAX_LISTED).join(", ");
  return keys.length > MAX_LISTED ? `${shown} and ${keys.length - MAX_LISTED} more` : shown;
}

/** Why `source` cannot be written into `target`, or null where it can. */
function misfit(name: string, source: unknown, target: Tensor): string | null {
  if (!(source instanceof Tensor)) return `${name}: expected a tensor, got ${describe(source)}`;
  source.assertUsable("loadStateDict");
  if (!sameShape(source.shape, target.shape)) {
    return `${name}: expected shape ${formatShape(target.shape)}, got ${formatShape(source.shape)}`;
  }
  if (isFloating(source.dtype) !== isFloating(target.dtype)) {
    return `${name}: expected ${target.dtype}, got ${source.dtype}`;
  }
  return null;
}

/**
 * Writes a state dictionary into `targets`, cast to their dtypes. All is checked first: where
 * something does not fit, nothing is written.
 * @param owner what errors call the module
 * @throws CheckpointError for tensors that do not fit and, when `strict`, for keys without
 * counterpart.
 */
export function loadState(
  owner: string,
  targets: ReadonlyMap<string, Tensor>,
  state: Readonly<Record<string, unknown>>,
  strict: boolean,
): LoadResult {
  if (typeof state !== "object" || (state as unknown) === null) {
    throw new CheckpointError(
      `loadStateDict: ${owner} — expected an object of tensors, got ${describe(state)}`,
      { op: "loadStateDict" },
    );
  }
  const missingKeys = [...targets.keys()].filter((key) => !Object.hasOwn(state, key));
  const unexpectedKeys = Object.keys(state).filter((key) => !targets.has(key));
  const faults: string[] = [];
  if (strict && missingKeys.length > 0) faults.push(`missing keys: ${list(missingKeys)}`);
  if (strict && unexpectedKeys.length > 0) faults.push(`unexpected keys: ${list(unexpectedKeys)}`);
  const present = [...targets].filter(([key]) => Object.hasOwn(state, key));
  const misfits = present.map(([key, target]) => misfit(key, state[key], target));
  const found = misfits.filter((fault) => fault !== null);
  if (found.length > 0) {
    const more = found.length > MAX_LISTED ? `; and ${found.length - MAX_LISTED} more` : "";
    faults.push(found.slice(0, MAX_LISTED).join("; ") + more);
  }
  if (faults.length > 0) {
    throw new CheckpointError(
      `loadStateDict: the state does not fit ${owner}, nothing was loaded — ${faults.join("; ")}`,
      { op: "loadStateDict" },
    );
  }
  noGrad(() => {
    for (const [key, target] of present) {
      const source = state[key] as Tensor;
      const here = to(source, { device: target.device });
      copyFrom(target, here);
      if (here !== source) here.dispose();
    }
  });
  return { missingKeys, unexpectedKeys };
}
