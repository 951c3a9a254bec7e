import { describe, expect, it } from "vitest";

import {
  batchesOf,
  encodeTexts,
  groupedByLength,
  loadTexts,
  numberClassesAs,
  type Sample,
} from "../../lib/cli/finetune/dataset.js";
import { Random, TextTokenizer, type TextDataset } from "../../lib/data/index.js";
import { DataError } from "../../lib/errors.js";

const builtin = { data: null, textColumn: "text", labelColumn: "label" };

function texts(...list: string[]): TextDataset {
  return { texts: list, labels: list.map((_, i) => i % 2), labelNames: ["a", "b"] };
}

describe("loadTexts", () => {
  it("splits the built-in reviews by the seed: 60, 10 and 30 of a hundred, no text twice", async () => {
    const [one, again, other] = await Promise.all(
      [1, 1, 2].map((seed) => loadTexts({ ...builtin, seed })),
    );
    const sizes = [one!.train, one!.validation, one!.test].map((part) => part.texts.length);
    expect(sizes).toEqual([4800, 800, 2400]);
    expect(again).toEqual(one);
    expect(other!.test.texts).not.toEqual(one!.test.texts);
    expect(one!.labelNames).toEqual(["negative", "positive"]);
    const training = new Set(one!.train.texts);
    // The generator makes a few reviews twice.
    expect(one!.test.texts.filter((text) => training.has(text)).length).toBeLessThan(8);
  });

  it("joins the built-in reviews to long texts of one class after they were split", async () => {
    const [short, long] = await Promise.all(
      [false, true].map((full) => loadTexts({ ...builtin, seed: 1, full })),
    );
    for (const part of ["train", "validation", "test"] as const) {
      const { texts, labels } = long![part];
      expect(new Set(labels)).toEqual(new Set([0, 1]));
      const label = new Map(short![part].texts.map((text, i) => [text, short![part].labels[i]]));
      texts.forEach((text, i) => {
        const words = text.split(" ").length;
        expect(words).toBeGreaterThanOrEqual(400);
        expect(words).toBeLessThan(460);
        const first = [...label.keys()].find((review) => text.startsWith(`${review} `))!;
        expect(label.get(first)).toBe(labels[i]);
      });
    }
    // A batch of 12 has several steps in an epoch, and its texts nearly fill 512 tokens.
    expect(long!.train.texts.length).toBeGreaterThan(180);
  });

  it("numbers classes as the head does that is trained on", async () => {
    const own = await loadTexts({ ...builtin, seed: 1 });
    const turned = await loadTexts({ ...builtin, seed: 1 }, ["positive", "negative"]);
    expect(turned.labelNames).toEqual(["positive", "negative"]);
    const positive = (part: TextDataset) => {
      const id = part.labelNames.indexOf("positive");
      return part.texts.filter((_, i) => part.labels[i] === id).sort();
    };
    const all = (set: typeof own) => [set.train, set.validation, set.test].flatMap(positive).sort();
    expect(all(turned)).toEqual(all(own));
  });
});

describe("numberClassesAs", () => {
  const dataset = texts("x", "y", "z");
  it("changes the numbers where the names are the same", () => {
    expect(numberClassesAs(["b", "a"], dataset)).toEqual({
      texts: ["x", "y", "z"],
      labels: [1, 0, 1],
      labelNames: ["b", "a"],
    });
  });
  it.each([[["a"]], [["a", "c"]], [["a", "b", "c"]], [["a", "a"]], [[]]])(
    "leaves the numbers where the head has the classes %j",
    (names) => expect(numberClassesAs(names, dataset)).toBe(dataset),
  );
});

describe("encodeTexts", () => {
  const split = {
    train: texts("good food", "a very good and long text about good food", "bad food"),
    validation: texts("good", "bad"),
    test: texts("food is good", "food is bad"),
  };
  const tokenizer = TextTokenizer.train(split.train.texts, { vocabSize: 100, minFrequency: 1 });
  const { vocabSize } = tokenizer;

  it("cuts off at maxLength, special tokens kept, and counts what was cut", () => {
    const data = encodeTexts(split, tokenizer, { maxLength: 5, vocabSize });
    expect(data.train.map(({ label }) => label)).toEqual([0, 1, 0]);
    const [cls, sep] = [tokenizer.tokenId("[CLS]"), tokenizer.tokenId("[SEP]")];
    for (const { ids } of [...data.train, ...data.validation, ...data.test]) {
      expect(ids.length).toBeLessThanOrEqual(5);
      expect([ids[0], ids.at(-1)]).toEqual([cls, sep]);
    }
    const long = split.train.texts.concat(split.validation.texts, split.test.texts);
    const cut = long.filter((text) => tokenizer.encode(text).length > 5).length;
    expect(cut).toBeGreaterThan(0);
    expect(data.truncated).toBe(cut);
    expect(encodeTexts(split, tokenizer, { maxLength: 64, vocabSize }).truncated).toBe(0);
  });

  it("refuses ids that the model does not have", () => {
    const small = () => encodeTexts(split, tokenizer, { maxLength: 8, vocabSize: 6 });
    expect(small).toThrow(DataError);
    expect(small).toThrow(/the model has 6 tokens; tokenizer.json and config.json do not belong/);
  });
});

describe("groupedByLength", () => {
  const lengths = (seed: number, count: number, batchSize: number) => {
    const samples = Array.from({ length: count }, (_, i) => ({
      ids: Array.from({ length: 3 + ((i * 7) % 40) }, () => 5),
      label: i,
    }));
    const order = groupedByLength(samples, batchSize, new Random(seed));
    expect(order.map(({ label }) => label).sort((a, b) => a - b)).toEqual(
      samples.map(({ label }) => label),
    );
    return order.map(({ ids }) => ids.length);
  };

  it("puts texts of about one length into a batch, in a random order of batches", () => {
    const grouped = lengths(1, 200, 8);
    const batches = Array.from({ length: 25 }, (_, i) => grouped.slice(8 * i, 8 * i + 8));
    for (const batch of batches) expect(Math.max(...batch) - Math.min(...batch)).toBeLessThan(8);
    const longest = batches.map((batch) => Math.max(...batch));
    expect(longest).not.toEqual([...longest].sort((a, b) => b - a));
    expect(lengths(1, 200, 8)).toEqual(grouped);
    expect(lengths(2, 200, 8)).not.toEqual(grouped);
  });

  it.each([0, 1, 7, 8, 9, 129, 300])("keeps all of %d texts", (count) => {
    lengths(3, count, 8);
  });
});

describe("batchesOf", () => {
  const samples: Sample[] = [[5], [5, 6], [5, 6, 7], [8], [9, 9]].map((ids, label) => ({
    ids,
    label,
  }));
  const options = { batchSize: 2, padId: 0, maxLength: 4, padding: "longest" } as const;

  it("pads to the longest text of a batch, or to maxLength", () => {
    const shapes = (padding: "longest" | "max-length") =>
      [...batchesOf(samples, { ...options, padding })].map(({ shape }) => shape);
    expect(shapes("longest")).toEqual([
      [2, 3],
      [2, 2],
      [1, 1],
    ]);
    expect(shapes("max-length")).toEqual([
      [2, 4],
      [2, 4],
      [1, 4],
    ]);
  });

  it("keeps labels and texts together in each new order, which the seed decides", () => {
    const epochs = (seed: number) => {
      const loader = batchesOf(samples, { ...options, shuffleSeed: seed });
      return [0, 1].map(() =>
        [...loader].flatMap(({ labels, shape, inputIds, attentionMask }) =>
          [...labels].map((label, row) => {
            const at = row * shape[1];
            const ids = [...inputIds.subarray(at, at + shape[1])];
            const length = attentionMask.subarray(at, at + shape[1]).reduce((a, b) => a + b, 0);
            expect(ids.slice(0, length)).toEqual(samples[label]!.ids);
            return label;
          }),
        ),
      );
    };
    const [first, second] = epochs(3);
    expect([...first!].sort()).toEqual([0, 1, 2, 3, 4]);
    expect(second).not.toEqual(first);
    expect(epochs(3)).toEqual([first, second]);
    expect(epochs(4)).not.toEqual([first, second]);
  });
});
