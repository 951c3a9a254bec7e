// Numbers the classes of labels that stand in data files: whole numbers as they are, names in
// sorted order, or as a list of names says.

import { ArgumentError, describe } from "../errors.js";
import { failAt, type RowPlace } from "./sources/index.js";
import type { Label } from "./text-stream.js";

/** Labels of one or more files, and where each of them stands. */
export interface LabelList {
  readonly length: number;
  label(index: number): Label;
  place(index: number): RowPlace;
}

/** Classes by number, and the number of each label. */
export interface NumberedLabels {
  readonly labelNames: readonly string[];
  readonly labels: Int32Array;
}

function compareCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Index of the first label for which `test` holds; -1 where there is none. */
function findIndex(list: LabelList, test: (label: Label) => boolean): number {
  for (let i = 0; i < list.length; i++) if (test(list.label(i))) return i;
  return -1;
}

function describeAt(list: LabelList, index: number): string {
  const { file, unit, at } = list.place(index);
  const label = list.label(index);
  const kind = typeof label === "number" ? "number" : "name";
  return `${kind} ${describe(label)} in ${unit === null ? file : `${unit} ${at}`}`;
}

/** Numbers have to be 0 … classes - 1, so that a stray one cannot make the head huge. */
function numberedClasses(list: LabelList, values: ReadonlySet<Label>, op: string): string[] {
  const outside = findIndex(list, (label) => (label as number) >= values.size);
  if (outside >= 0) {
    failAt(
      op,
      list.place(outside),
      `label ${list.label(outside)} out of range — the data has ${values.size} different labels, ` +
        `so expected 0 to ${values.size - 1}`,
    );
  }
  return Array.from({ length: values.size }, (_, index) => String(index));
}

function classesOf(list: LabelList, source: string, op: string): string[] {
  const first = list.label(0);
  const other = findIndex(list, (label) => typeof label !== typeof first);
  if (other >= 0) {
    const both = `${describeAt(list, 0)}, ${describeAt(list, other)}`;
    failAt(op, list.place(other), `labels are numbers and names mixed: ${both}`);
  }
  const values = new Set<Label>();
  for (let i = 0; i < list.length; i++) values.add(list.label(i));
  const names =
    typeof first === "number"
      ? numberedClasses(list, values, op)
      : ([...values] as string[]).sort(compareCodeUnits);
  if (names.length < 2) {
    failAt(op, source, `all labels are ${describe(first)} — expected at least two classes`);
  }
  return names;
}

/** @throws ArgumentError where a name stands twice. */
export function checkLabelNames(names: readonly string[] | undefined, op: string): void {
  if (names !== undefined && new Set(names).size !== names.length) {
    throw new ArgumentError(`${op}: labelNames — expected different names`, { op });
  }
}

/**
 * Numbers the labels. A number stands for the class of that place in `names`, unless it is one of
 * the names.
 * @param source what an error about all of them calls the data.
 * @throws DataError for labels that are not among `names`; without names for numbers with gaps,
 * numbers and names mixed, or one class alone.
 */
export function numberLabels(
  list: LabelList,
  source: string,
  op: string,
  names?: readonly string[] | null,
): NumberedLabels {
  if (list.length === 0) failAt(op, source, "no labels");
  const labelNames = names ?? classesOf(list, source, op);
  const index = new Map(labelNames.map((name, at) => [name, at]));
  const labels = new Int32Array(list.length);
  for (let i = 0; i < list.length; i++) {
    const label = list.label(i);
    const place = typeof label === "number" && label < labelNames.length ? label : undefined;
    const at = index.get(String(label)) ?? place;
    if (at === undefined) {
      const shown = labelNames.slice(0, 20).map((name) => JSON.stringify(name));
      if (labelNames.length > shown.length) shown.push("…");
      const expected = `expected one of ${shown.join(", ")}`;
      failAt(op, list.place(i), `label ${describe(label)} out of range — ${expected}`);
    }
    labels[i] = at;
  }
  return { labelNames, labels };
}
