import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

import fc from "fast-check";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { CsvSplitter, type CsvRecord } from "../../lib/data/sources/csv-records.js";
import { dataFile, findDataFiles } from "../../lib/data/sources/index.js";
import { loadTextDataset, loadTextSplits } from "../../lib/data/text-dataset.js";
import {
  BadRows,
  describeBadRows,
  streamTexts,
  type TextRow,
  type TextStreamOptions,
} from "../../lib/data/text-stream.js";
import { DataError } from "../../lib/errors.js";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-sources-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const file = path.join(directory, name);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, content);
  return file;
}

async function rowsOf(file: string, options: TextStreamOptions = {}): Promise<TextRow[]> {
  const rows: TextRow[] = [];
  for await (const row of streamTexts([dataFile(file)], options)) rows.push(row);
  return rows;
}

type Brief = [string, number | string | null, number];
const brief = (rows: readonly TextRow[]): Brief[] =>
  rows.map(({ text, label, at }) => [text, label, at]);

/** Rows that are of use, and `line: reason` of the others. */
async function skipBad(file: string, options: TextStreamOptions = {}) {
  const bad = new BadRows();
  const rows = await rowsOf(file, { ...options, badRows: "skip", bad });
  return { rows: brief(rows), bad };
}

describe("CSV", () => {
  it("counts lines through quoted line breaks of every kind, blank lines and CRLF", async () => {
    const content = '\ufefftext,label\r\n"a\r\nb",x\r\n\r\n"c\nd\re",y\r\nf,z\r\n';
    expect(brief(await rowsOf(await write("lines.csv", content)))).toEqual([
      ["a\r\nb", "x", 2],
      ["c\nd\re", "y", 5],
      ["f", "z", 8],
    ]);
  });

  it("reads a field of 10 MB with line breaks in it, and what stands behind it", async () => {
    const line = "a film of “some” length, and more. ".repeat(29) + "\n";
    const long = line.repeat(Math.ceil((10 * 2 ** 20) / Buffer.byteLength(line)));
    const file = await write("long.csv", `text,label\n"${long}",0\nshort,1\n`);
    const rows = await rowsOf(file);
    expect(rows.map(({ text }) => text.length)).toEqual([long.length, 5]);
    expect(rows[0]!.text).toBe(long);
    expect(rows[1]!.at).toBe(3 + long.split("\n").length - 1);
  });

  it("finds characters that lie across blocks", async () => {
    const rows = Array.from({ length: 40_000 }, (_, i) => `é€😀${i},${i % 2}\r\n`);
    const file = await write("blocks.csv", `text,label\r\n${rows.join("")}`);
    const read = await rowsOf(file);
    expect(read).toHaveLength(rows.length);
    read.forEach(({ text, label, at }, i) => {
      if (text !== `é€😀${i}` || label !== i % 2 || at !== i + 2) expect.fail(`row ${i}: ${text}`);
    });
  });

  it("shows bad rows with their lines and goes on, or ends at the first", async () => {
    const content = Buffer.concat([
      Buffer.from("id,text,label\n1,good,0\n2,,1\n3,a,b,c\n4,x\n5,fine,-1\n6,bro"),
      Buffer.from([0xff]),
      Buffer.from('ken,1\n7,"q"uote,0\n8,"two\nlines",\n9,st"ray,1\n10,last,1\n'),
    ]);
    const file = await write("bad.csv", content);
    const { rows, bad } = await skipBad(file);
    expect(rows).toEqual([
      ["good", 0, 2],
      ["last", 1, 12],
    ]);
    expect(describeBadRows(bad).map((line) => line.replace(file, "F"))).toEqual([
      "F, line 3: the text is empty",
      "F, line 4: expected 3 fields as in the header, got 4",
      "F, line 5: expected 3 fields as in the header, got 2",
      "F, line 6: label -1 out of range — expected 0 or more",
      'F, line 7: not UTF-8 — byte 0xff at offset 3 of column "text"',
      "F, line 8: broken quotes: text follows the closing quote of a field",
      "F, line 9: the label is empty",
      'F, line 11: broken quotes: a quote inside a field that is not quoted (write "")',
    ]);
    await expect(rowsOf(file)).rejects.toThrow(`streamTexts: ${file}, line 3: the text is empty`);
  });

  it("says where a quote begins that is never closed, and keeps what stood before", async () => {
    const file = await write("open.csv", 'text,label\na,0\nb,1\n"c,0\nd,1\n');
    const { rows, bad } = await skipBad(file);
    expect(rows).toEqual([
      ["a", 0, 2],
      ["b", 1, 3],
    ]);
    expect(bad.count).toBe(1);
    expect(bad.rows[0]!.reason).toMatch(/not closed before the end/);
  });

  it("counts all bad rows and shows the first of them", async () => {
    const rows = Array.from({ length: 50 }, () => ",1\n").join("");
    const { bad } = await skipBad(await write("many.csv", `text,label\na,0\n${rows}`));
    expect(bad.count).toBe(50);
    expect(describeBadRows(bad)).toHaveLength(21);
    expect(describeBadRows(bad).at(-1)).toBe("and 30 more");
  });

  it("fails where no row is of use, also when bad ones are skipped", async () => {
    const file = await write("useless.csv", "text,label\n,1\n,0\n");
    await expect(skipBad(file)).rejects.toThrow(/none of its 2 rows is of use/);
    const missing = await write("columns.csv", "a,b\n1,2\n");
    await expect(skipBad(missing)).rejects.toThrow(/line 1: no column "text" and "label"/);
  });

  it("reads texts without labels where none are wanted", async () => {
    const file = await write("plain.csv", "text\na\nb\n");
    expect(brief(await rowsOf(file, { labelColumn: null }))).toEqual([
      ["a", null, 2],
      ["b", null, 3],
    ]);
  });

  it("reads a file as it is asked for rows, and may stop early", async () => {
    const rows = Array.from({ length: 100_000 }, (_, i) => `row ${i},0\n`).join("");
    const file = await write("early.csv", `text,label\n${rows}"open,1\n`);
    for await (const { text } of streamTexts([dataFile(file)])) {
      // The broken end is not reached.
      expect(text).toBe("row 0");
      break;
    }
  });
});

describe("CsvSplitter", () => {
  const split = (content: string, cut: number, quoting = true): CsvRecord[] => {
    const splitter = new CsvSplitter(0x2c, quoting);
    const bytes = Buffer.from(content);
    const records: CsvRecord[] = [];
    for (let at = 0; at < bytes.length; at += cut) {
      records.push(...splitter.records(bytes.subarray(at, at + cut)));
    }
    const last = splitter.rest();
    return last === null ? records : [...records, last];
  };
  const plain = (records: CsvRecord[]) =>
    records.map((record) => [record.line, "fault" in record ? null : record.fields.map(String)]);

  it("gives back what was written, with any line ends, cut into any blocks", () => {
    const field = fc.string({ unit: fc.constantFrom(...'ab,"\r\né'), maxLength: 6 });
    const rows = fc.array(fc.array(field, { minLength: 2, maxLength: 4 }), { maxLength: 6 });
    const end = fc.constantFrom("\n", "\r\n", "\r");
    const quote = (text: string, always: boolean) =>
      always || /[,"\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    fc.assert(
      fc.property(
        rows,
        end,
        fc.integer({ min: 1, max: 9 }),
        fc.boolean(),
        (all, eol, cut, always) => {
          let line = 1;
          const expected = all.map((row) => {
            const record = [line, row];
            line += 1 + row.join("|").split(/\r\n|\r|\n/).length - 1;
            return record;
          });
          const content = all
            .map((row) => row.map((f) => quote(f, always)).join(",") + eol)
            .join("");
          expect(plain(split(content, cut))).toEqual(expected);
        },
      ),
    );
  });

  it.each([
    [
      'a,b\n"x"y,1\nc,d',
      [
        [1, ["a", "b"]],
        [2, null],
        [3, ["c", "d"]],
      ],
    ],
    [
      'x"y,1\nc,"d"',
      [
        [1, null],
        [2, ["c", "d"]],
      ],
    ],
    ['a,"b\nc', [[1, null]]],
    ['a,"b"', [[1, ["a", "b"]]]],
    [
      '""\n"",""\n""""',
      [
        [1, [""]],
        [2, ["", ""]],
        [3, ['"']],
      ],
    ],
    [
      "a,\n,\n\n\n,b",
      [
        [1, ["a", ""]],
        [2, ["", ""]],
        [5, ["", "b"]],
      ],
    ],
    ["", []],
  ])("splits %j", (content, expected) => {
    for (const cut of [1, 2, 3, 100]) expect(plain(split(content, cut))).toEqual(expected);
  });

  it("takes quotes as they are where they mean nothing", () => {
    expect(plain(split('"a,b"\nc"d', 2, false))).toEqual([
      [1, ['"a', 'b"']],
      [2, ['c"d']],
    ]);
  });
});

describe("TSV", () => {
  it("has tabs, commas in fields, and quotes as CSV has them or none", async () => {
    const file = await write("a.tsv", 'text\tlabel\na, b\t0\n"c\td"\t1\n');
    expect(brief(await rowsOf(file))).toEqual([
      ["a, b", 0, 2],
      ["c\td", 1, 3],
    ]);
    const stray = await write("b.tsv", 'text\tlabel\n"so" it goes\t0\nsay "x\t1\n');
    expect(brief(await rowsOf(stray, { quoting: false }))).toEqual([
      ['"so" it goes', 0, 2],
      ['say "x', 1, 3],
    ]);
    await expect(rowsOf(stray)).rejects.toThrow(DataError);
  });
});

describe("JSON Lines", () => {
  it("reads CRLF, a mark, a line of 10 MB, and separators of lines that are none here", async () => {
    const long = "x".repeat(10 * 2 ** 20);
    const lines = [
      { text: "a\u2028b", label: 0 },
      { text: long, label: "one" },
    ].map((row) => JSON.stringify(row));
    const file = await write(
      "a.jsonl",
      `\ufeff${lines.join("\r\n")}\r\n\r\n{"text":"c","label":2}`,
    );
    const rows = await rowsOf(file);
    expect(rows.map(({ text, label, at }) => [text.length, label, at])).toEqual([
      [3, 0, 1],
      [long.length, "one", 2],
      [1, 2, 4],
    ]);
  });

  it("shows bad rows with their lines and goes on", async () => {
    const good = '{"text":"a","label":0}';
    const bad = [
      `{"text"`,
      `[1]`,
      `{"text":1,"label":0}`,
      `{"text":"b"}`,
      `{"text":"c","label":[]}`,
    ];
    const content = Buffer.concat([
      Buffer.from([good, ...bad, ""].join("\n")),
      Buffer.from([0x22, 0xc3, 0x22, 0x0a]),
      Buffer.from(good),
    ]);
    const result = await skipBad(await write("bad.ndjson", content));
    expect(result.rows.map(([, , at]) => at)).toEqual([1, 8]);
    const reasons = result.bad.rows.map(({ at, reason }) => `${at}: ${reason}`);
    expect(reasons[0]).toMatch(/^2: not JSON: /);
    expect(reasons.slice(1)).toEqual([
      "3: expected a JSON object, got array of 1",
      "4: expected a text, got 1",
      '5: no column "label" — columns found: "text"',
      "6: label — expected a whole number or a class name, got array of 0",
      "7: not UTF-8 — byte 0xc3 at offset 1",
    ]);
  });
});

const classLabels = (names: string[]) => [
  {
    key: "huggingface",
    value: JSON.stringify({
      info: { features: { label: { names, _type: "ClassLabel" }, text: { _type: "Value" } } },
    }),
  },
];

function parquet(
  texts: (string | null | Uint8Array)[],
  labels: (bigint | null)[],
  options: Record<string, unknown> = {},
): Uint8Array {
  const columnData = [
    { name: "text", data: texts, type: "STRING" as const },
    { name: "other", data: texts.map((_, i) => i), type: "INT32" as const },
    { name: "label", data: labels, type: "INT64" as const },
  ];
  return new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 3, ...options }));
}

describe("Parquet", () => {
  const texts = ["a", "b é", "c", "d", "e", "f", "g"];
  const labels = texts.map((_, i) => BigInt(i % 3));

  it.each([
    ["snappy", {}],
    ["no compression", { codec: "UNCOMPRESSED" }],
    [
      "brotli",
      {
        codec: "BROTLI",
        compressors: { BROTLI: (bytes: Uint8Array) => brotliCompressSync(bytes) },
      },
    ],
    ["gzip", { codec: "GZIP", compressors: { GZIP: (bytes: Uint8Array) => gzipSync(bytes) } }],
  ])("is read group by group: %s", async (name, options) => {
    const file = await write(`${name}.parquet`, parquet(texts, labels, options));
    const rows = await rowsOf(file);
    expect(brief(rows)).toEqual(texts.map((text, i) => [text, i % 3, i + 1]));
    expect(rows[0]!.unit).toBe("row");
  });

  it("tells the names of classes, in their order, as `datasets` writes them", async () => {
    const kvMetadata = classLabels(["World", "Sports", "Business"]);
    const file = await write("names.parquet", parquet(texts, labels, { kvMetadata }));
    const { labelNames, labels: read } = await loadTextDataset(file);
    expect(labelNames).toEqual(["World", "Sports", "Business"]);
    expect(read).toEqual([0, 1, 2, 0, 1, 2, 0]);
    const two = await write(
      "two.parquet",
      parquet(texts, labels, { kvMetadata: classLabels(["a", "b"]) }),
    );
    await expect(loadTextDataset(two)).rejects.toThrow(
      /two.parquet, row 3: label 2 out of range — expected one of "a", "b"/,
    );
  });

  it("shows bad rows with their numbers", async () => {
    const bytes = parquet(["a", null, "", "d"], [0n, 1n, 1n, null]);
    const { rows, bad } = await skipBad(await write("bad.parquet", bytes));
    expect(rows).toEqual([["a", 0, 1]]);
    expect(bad.rows.map(({ at, unit, reason }) => `${unit} ${at}: ${reason}`)).toEqual([
      expect.stringMatching(/^row 2: expected a text, got (null|undefined)/) as string,
      "row 3: the text is empty",
      expect.stringMatching(/^row 4: label — expected .* got (null|undefined)/) as string,
    ]);
  });

  it("says what is wrong with a file", async () => {
    const whole = parquet(texts, labels);
    const cut = await write("cut.parquet", whole.subarray(0, whole.length - 20));
    await expect(rowsOf(cut)).rejects.toThrow(/cut.parquet: not a Parquet file that can be read/);
    const none = await write("none.parquet", Buffer.from("text,label\na,0\n"));
    await expect(rowsOf(none)).rejects.toThrow(DataError);
    await expect(rowsOf(await write("empty.parquet", ""))).rejects.toThrow(DataError);
    const garbled = Uint8Array.from(whole);
    garbled.fill(0xff, 4, 60);
    await expect(rowsOf(await write("garbled.parquet", garbled))).rejects.toThrow(DataError);
    const file = await write("columns.parquet", whole);
    await expect(rowsOf(file, { textColumn: "body" })).rejects.toThrow(
      /no column "body" — columns found: "text", "other", "label"/,
    );
    await expect(rowsOf(path.join(directory, "gone.parquet"))).rejects.toThrow(
      /cannot be read: ENOENT/,
    );
  });
});

describe("findDataFiles", () => {
  const names = async (where: string) => {
    const files = await findDataFiles(path.join(directory, where));
    const short = (part: readonly { path: string }[]) =>
      part.map((file) => path.relative(path.join(directory, where), file.path));
    return {
      train: short(files.train),
      validation: short(files.validation),
      test: short(files.test),
    };
  };

  it("knows the files of a data set on the hub, and leaves out what is no part", async () => {
    const bytes = parquet(["a", "b"], [0n, 1n]);
    for (const name of ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"]) {
      await write(`hub/plain_text/${name}.parquet`, bytes);
    }
    await write("hub/plain_text/unsupervised-00000-of-00001.parquet", bytes);
    await write("hub/README.md", "---\n");
    await write("hub/.cache/train.parquet", bytes);
    expect(await names("hub")).toEqual({
      train: ["plain_text/train-00000-of-00002.parquet", "plain_text/train-00001-of-00002.parquet"],
      validation: [],
      test: ["plain_text/test-00000-of-00001.parquet"],
    });
  });

  it("follows links, as the cache of the hub has them", async () => {
    const blob = await write("blobs/abc", "text,label\na,0\n");
    await mkdir(path.join(directory, "snapshot/data"), { recursive: true });
    await symlink(blob, path.join(directory, "snapshot/data/validation.csv"));
    expect((await names("snapshot")).validation).toEqual(["data/validation.csv"]);
  });

  it("knows the parts by names of files or of folders", async () => {
    for (const name of ["my_train.csv", "dev.csv", "eval-set.csv"])
      await write(`flat/${name}`, "x");
    expect(await names("flat")).toEqual({
      train: ["my_train.csv"],
      validation: ["dev.csv"],
      test: ["eval-set.csv"],
    });
    for (const name of ["train/0.jsonl", "test/0.jsonl"]) await write(`deep/${name}`, "x");
    expect(await names("deep")).toEqual({
      train: ["train/0.jsonl"],
      validation: [],
      test: ["test/0.jsonl"],
    });
    for (const name of ["a.jsonl", "b.jsonl"]) await write(`bare/${name}`, "x");
    expect((await names("bare")).train).toEqual(["a.jsonl", "b.jsonl"]);
    // A word that only begins so is none of them.
    await write("words/contest.csv", "x");
    expect((await names("words")).train).toEqual(["contest.csv"]);
  });

  it("refuses what is not clear or not whole", async () => {
    const find = (where: string) => findDataFiles(path.join(directory, where));
    for (const name of ["en/train.csv", "de/train.csv"]) await write(`configs/${name}`, "x");
    await expect(find("configs")).rejects.toThrow(
      /several folders have a train part .* "de", "en"/,
    );
    await write("kinds/train.csv", "x");
    await write("kinds/test.jsonl", "x");
    await expect(find("kinds")).rejects.toThrow(/files of different kinds: jsonl, csv/);
    await write("part/train-00000-of-00003.csv", "x");
    await write("part/train-00002-of-00003.csv", "x");
    await expect(find("part")).rejects.toThrow(/3 parts belong together, and part 1 is not there/);
    await write("nothing/notes.md", "x");
    await expect(find("nothing")).rejects.toThrow(/no data in it/);
    await expect(find("absent")).rejects.toThrow(/cannot be read: ENOENT/);
  });
});

describe("folders of classes", () => {
  beforeAll(async () => {
    for (const part of ["train", "test"]) {
      for (const [label, text] of [
        ["pos", "good"],
        ["neg", "bad"],
      ] as const) {
        for (const i of [0, 1, 2])
          await write(`aclImdb/${part}/${label}/${i}_9.txt`, `${text} ${i}`);
      }
      await write(`aclImdb/${part}/labeledBow.feat`, "x");
    }
    await write("aclImdb/train/unsup/0_0.txt", "unknown");
    await write("aclImdb/README", "x");
    await write("aclImdb/imdb.vocab", "x");
  });

  it("are read as aclImdb has them: neg 0, pos 1, without unsup", async () => {
    const { train, validation, test, labelNames } = await loadTextSplits(
      path.join(directory, "aclImdb"),
      { validation: 0.34 },
    );
    expect(labelNames).toEqual(["neg", "pos"]);
    const pairs = [...train.texts, ...validation.texts].map((text, i) => [
      text.split(" ")[0],
      [...train.labels, ...validation.labels][i],
    ]);
    expect(pairs.sort()).toEqual([
      ["bad", 0],
      ["bad", 0],
      ["bad", 0],
      ["good", 1],
      ["good", 1],
      ["good", 1],
    ]);
    expect(validation.labels.length).toBe(2);
    expect(test.texts).toEqual(["bad 0", "bad 1", "bad 2", "good 0", "good 1", "good 2"]);
  });

  it("may be one part alone, and name a bad file", async () => {
    const where = path.join(directory, "aclImdb/train");
    const { train } = await loadTextSplits(where, { validation: 0.2, test: 0.2 });
    expect(train.labels).toHaveLength(4);
    await write("spoilt/a/1.txt", Buffer.from([0x61, 0xff]));
    await write("spoilt/a/2.txt", "\ufefffine");
    await write("spoilt/b/1.txt", " \n");
    await write("spoilt/b/2.txt", "too");
    const spoilt = path.join(directory, "spoilt");
    await expect(loadTextSplits(spoilt)).rejects.toThrow(/spoilt\/a\/1.txt: not UTF-8 — byte 0xff/);
    const bad = new BadRows();
    const rows: TextRow[] = [];
    const files = (await findDataFiles(spoilt)).train;
    for await (const row of streamTexts(files, { badRows: "skip", bad })) rows.push(row);
    expect(rows.map(({ text, label }) => [text, label])).toEqual([
      ["fine", "a"],
      ["too", "b"],
    ]);
    expect(bad.count).toBe(2);
  });
});

describe("loadTextSplits", () => {
  const csv = (name: string, labels: readonly (string | number)[]) =>
    write(name, `text,label\n${labels.map((label, i) => `t${i},${label}\n`).join("")}`);

  it("numbers the classes of all parts together", async () => {
    await csv("parts/train.csv", ["b", "c", "b", "c"]);
    await csv("parts/validation.csv", ["a"]);
    await csv("parts/test.csv", ["c"]);
    const set = await loadTextSplits(path.join(directory, "parts"));
    expect(set.labelNames).toEqual(["a", "b", "c"]);
    expect([set.train.labels, set.validation.labels, set.test.labels]).toEqual([
      [1, 2, 1, 2],
      [0],
      [2],
    ]);
  });

  it("takes the parts that have no file from the training rows, by class and seed", async () => {
    const file = await csv(
      "whole.csv",
      Array.from({ length: 40 }, (_, i) => (i % 4 === 0 ? 1 : 0)),
    );
    const read = (seed: number) => loadTextSplits(file, { validation: 0.1, test: 0.2, seed });
    const [one, again, other] = await Promise.all([read(1), read(1), read(2)]);
    expect([one.train, one.validation, one.test].map(({ texts }) => texts.length)).toEqual([
      28, 4, 8,
    ]);
    expect(one.test.labels.filter((label) => label === 1)).toHaveLength(2);
    expect(again).toEqual(one);
    expect(other.test.texts).not.toEqual(one.test.texts);
  });

  it("names file and line of a label that fits no class", async () => {
    await csv("strange/train.csv", [0, 1]);
    await csv("strange/test.csv", [0, 5]);
    await expect(loadTextSplits(path.join(directory, "strange"))).rejects.toThrow(
      /test.csv, line 3: label 5 out of range — the data has 3 different labels/,
    );
  });
});
