import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { DTYPES, itemSize } from "../../lib/dtype.js";
import { CheckpointError } from "../../lib/errors.js";
import {
  parseSafetensors,
  readSafetensorsHeader,
  serializeSafetensorsHeader,
  type SafetensorsTensor,
} from "../../lib/io/safetensors-format.js";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mixprec-safetensors-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** A file with this header text, whatever it says, and this much data. */
function file(header: string | Uint8Array, dataLength = 0, claimed?: bigint): Uint8Array {
  const json = Buffer.from(header as string);
  const bytes = Buffer.alloc(8 + json.byteLength + dataLength);
  bytes.writeBigUInt64LE(claimed ?? BigInt(json.byteLength));
  json.copy(bytes, 8);
  return bytes;
}

const w = (fields: string): string => `{"w":{${fields}}}`;
const good = '"dtype":"F32","shape":[2],"data_offsets":[0,8]';

/** Both ways to read a file agree; this is their error, or null. */
function failure(bytes: Uint8Array): string | null {
  const name = path.join(directory, "model.safetensors");
  writeFileSync(name, bytes);
  const fd = openSync(name, "r");
  const messages = [() => parseSafetensors(bytes, name), () => readSafetensorsHeader(fd, name)].map(
    (read) => {
      try {
        read();
        return null;
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
        expect((error as Error).message).toContain(name);
        return (error as Error).message;
      }
    },
  );
  closeSync(fd);
  expect(messages[1]).toBe(messages[0]);
  return messages[0]!;
}

describe("reading a header", () => {
  it.each<[string, Uint8Array]>([
    ["no tensors", file("{}")],
    ["spaces behind the header", file(`${w(good)}      `, 8)],
    ["spaces inside", file(`{ "w" : { ${good} } }`, 8)],
    ["metadata", file(`{"__metadata__":{"a":"b"},"w":{${good}}}`, 8)],
    ["a scalar", file(w('"dtype":"F64","shape":[],"data_offsets":[0,8]'), 8)],
    ["an empty tensor", file(w('"dtype":"F64","shape":[3,0],"data_offsets":[0,0]'))],
    ["colons, braces and quotes in names", file(`{"a:{\\"\\\\":{${good}}}`, 8)],
    ["__proto__ as a name", file(`{"__proto__":{${good}}}`, 8)],
  ])("takes %s", (_, bytes) => {
    expect(failure(bytes)).toBeNull();
  });

  it("gives entries in the order of their bytes", () => {
    const second = '"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}';
    const header = `{${second},"a":{${good}},"__metadata__":{"format":"pt"}}`;
    const parsed = parseSafetensors(file(header, 11), "x");
    expect(parsed.entries).toEqual([
      { name: "a", dtype: "float32", shape: [2], begin: 0, end: 8 },
      { name: "b", dtype: "uint8", shape: [3], begin: 8, end: 11 },
    ]);
    expect(parsed.metadata).toEqual({ format: "pt" });
    expect([parsed.dataOffset, parsed.dataLength]).toEqual([8 + header.length, 11]);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ["an empty file", new Uint8Array(0), /truncated — expected at least 8 bytes, got 0/],
    ["7 bytes", new Uint8Array(7), /got 7/],
    [
      "a header length beyond the file",
      file("{}", 0, 99n),
      /the header takes 99 bytes, the file has 2/,
    ],
    ["a header length beyond the limit", file("{}", 0, 100_000_001n), /expected at most 100000000/],
    ["the largest header length", file("{}", 0, 2n ** 64n - 1n), /header of 18446744073709551615/],
    ["an empty header", file(""), /does not begin with {/],
    ["a header of something else", file("[]"), /does not begin with {/],
    ["a space first", file(" {}"), /does not begin with {/],
    ["a byte order mark", file("\ufeff{}"), /does not begin with {/],
    ["bytes that are not UTF-8", file(Buffer.from('{"\xff":{}}', "latin1")), /not UTF-8/],
    ["broken JSON", file('{"w":'), /not JSON/],
    ["zeros behind the header", file("{}\0\0"), /not JSON/],
    ["data cut off", file(w(good), 7), /"w": data_offsets \[0, 8\] out of range — the file has 7/],
    ["bytes behind the data", file(w(good), 9), /1 bytes after the last tensor/],
    ["bytes without a tensor", file("{}", 1), /1 bytes after the last tensor/],
    ["a tensor twice", file(`{"w":{${good}},"w":{${good}}}`, 8), /the key "w" twice/],
    ["a tensor twice, escaped", file(`{"w":{${good}},"\\u0077":{${good}}}`, 8), /twice/],
    ["a field twice", file(w(`${good},"dtype":"I32"`), 8), /the key "dtype" twice/],
    ["a field twice, with space", file(w(`${good},"shape" \n: [2]`), 8), /the key "shape" twice/],
    ["metadata twice", file('{"__metadata__":{},"__metadata__":{}}'), /twice/],
    ["a metadata key twice", file('{"__metadata__":{"a":"b","a":"b"}}'), /the key "a" twice/],
    ["metadata that is no object", file('{"__metadata__":"a"}'), /__metadata__ — expected an obj/],
    [
      "metadata that is no string",
      file('{"__metadata__":{"a":1}}'),
      /"a" — expected a string, got 1/,
    ],
    ["an entry that is no object", file('{"w":[]}'), /"w": expected an object/],
    ["no dtype", file(w('"shape":[2],"data_offsets":[0,8]'), 8), /dtype is missing/],
    ["no shape", file(w('"dtype":"F32","data_offsets":[0,8]'), 8), /shape is missing/],
    ["no offsets", file(w('"dtype":"F32","shape":[2]'), 8), /data_offsets is missing/],
    [
      "an unsupported dtype",
      file(w(good.replace("F32", "I16")), 8),
      /expected one of .* got "I16"/,
    ],
    ["a dtype that is no string", file(w(good.replace('"F32"', "32")), 8), /dtype — .* got 32/],
    ["a dtype of our own name", file(w(good.replace("F32", "float32")), 8), /got "float32"/],
    ["a shape that is no array", file(w(good.replace("[2]", "2")), 8), /shape — expected an array/],
    ["a negative size", file(w(good.replace("[2]", "[-2]")), 8), /not a whole one .*-2/],
    ["a size with a fraction", file(w(good.replace("[2]", "[2.0]")), 8), /not a whole one .*2.0/],
    ["a size with an exponent", file(w(good.replace("[2]", "[2e0]")), 8), /not a whole one .*2e0/],
    ["a size as text", file(w(good.replace("[2]", '["2"]')), 8), /shape\[0\] — expected a safe/],
    ["a size beyond 2^53", file(w(good.replace("[2]", "[9007199254740993]")), 8), /safe integer/],
    [
      "a product beyond 2^53",
      file(w(good.replace("[2]", "[4294967296,4294967296]")), 8),
      /too large/,
    ],
    [
      "a span that is too small",
      file(w(good.replace("[2]", "[3]")), 8),
      /takes 12 bytes, but .* span 8/,
    ],
    [
      "a span that is too large",
      file(w(good.replace("[2]", "[1]")), 8),
      /takes 4 bytes, but .* span 8/,
    ],
    ["offsets backwards", file(w(good.replace("[0,8]", "[8,0]")), 8), /end before they begin/],
    ["one offset", file(w(good.replace("[0,8]", "[0]")), 8), /data_offsets — expected two/],
    ["three offsets", file(w(good.replace("[0,8]", "[0,8,8]")), 8), /data_offsets — expected two/],
    ["a negative offset", file(w(good.replace("[0,8]", "[-8,0]")), 8), /not a whole one/],
    ["a gap at the start", file(w(good.replace("[0,8]", "[1,9]")), 9), /"w": gap at the start/],
    [
      "an overlap",
      file(`{"a":{${good}},"b":{${good.replace("[0,8]", "[4,12]")}}}`, 12),
      /tensor "b": overlap after tensor "a" — expected data_offsets to begin at 8, got 4/,
    ],
    [
      "a gap",
      file(`{"a":{${good}},"b":{${good.replace("[0,8]", "[9,17]")}}}`, 17),
      /tensor "b": gap after tensor "a"/,
    ],
    ["the same bytes twice", file(`{"a":{${good}},"b":{${good}}}`, 8), /overlap/],
    ["half a surrogate pair", file(`{"\\ud800":{${good}}}`, 8), /not Unicode/],
    ["deep nesting", file(`{"w":${"[".repeat(1e5)}${"]".repeat(1e5)}}`), /./],
  ])("rejects %s", (_, bytes, message) => {
    expect(failure(bytes)).toMatch(message);
  });

  it("allocates nothing by what a file claims", () => {
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 50; i++) failure(file("{}", 0, 99_000_000n));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50e6);
  });

  it("names a descriptor that cannot be read", () => {
    const fd = openSync(directory, "r");
    expect(() => readSafetensorsHeader(fd, "folder")).toThrow(CheckpointError);
    closeSync(fd);
    expect(() => readSafetensorsHeader(fd, "closed")).toThrow(CheckpointError);
  });
});

const tensors = fc.uniqueArray(
  fc.record({
    name: fc.string({ unit: "grapheme", maxLength: 12 }).filter((name) => name !== "__metadata__"),
    dtype: fc.constantFrom(...DTYPES),
    shape: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 }),
  }),
  { selector: ({ name }) => name, maxLength: 8 },
);

function write(list: readonly SafetensorsTensor[], metadata = {}): Uint8Array {
  const { bytes, dataLength } = serializeSafetensorsHeader(list, metadata);
  return Buffer.concat([bytes, Buffer.alloc(dataLength)]);
}

describe("writing a header", () => {
  it("writes what the reference writer does", () => {
    // From the order and spelling of safetensors' own serializer.
    const list: SafetensorsTensor[] = [
      { name: "b", dtype: "float32", shape: [2] },
      { name: "10", dtype: "bool", shape: [] },
      { name: "a", dtype: "float32", shape: [1, 2] },
      { name: "z", dtype: "int64", shape: [1] },
    ];
    const text = Buffer.from(serializeSafetensorsHeader(list, { format: "pt" }).bytes).toString();
    expect(text.slice(8).trimEnd()).toBe(
      '{"__metadata__":{"format":"pt"},"z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},' +
        '"a":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},' +
        '"b":{"dtype":"F32","shape":[2],"data_offsets":[16,24]},' +
        '"10":{"dtype":"BOOL","shape":[],"data_offsets":[24,25]}}',
    );
  });

  it("is read back, with every tensor aligned", () => {
    fc.assert(
      fc.property(
        tensors,
        fc.dictionary(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme" })),
        (list, metadata) => {
          const bytes = write(list, metadata);
          const { entries, dataOffset, ...rest } = parseSafetensors(bytes, "x");
          expect(dataOffset % 8).toBe(0);
          expect(Object.entries(rest.metadata).sort()).toEqual(Object.entries(metadata).sort());
          for (const { begin, dtype } of entries) expect(begin % itemSize(dtype)).toBe(0);
          const strip = ({ name, dtype, shape }: SafetensorsTensor) => ({ name, dtype, shape });
          const byName = (a: SafetensorsTensor, b: SafetensorsTensor) => (a.name < b.name ? -1 : 1);
          expect(entries.map(strip).sort(byName)).toEqual(list.map(strip).sort(byName));
        },
      ),
    );
  });

  it.each<[string, SafetensorsTensor[], Record<string, string>]>([
    ["a name twice", ["w", "w"].map((name) => ({ name, dtype: "bool", shape: [] })), {}],
    ["the name of the metadata", [{ name: "__metadata__", dtype: "bool", shape: [] }], {}],
    ["half a surrogate pair", [{ name: "\ud800", dtype: "bool", shape: [] }], {}],
    ["a negative size", [{ name: "w", dtype: "bool", shape: [-1] }], {}],
    ["metadata that is no string", [], { a: 1 as unknown as string }],
  ])("rejects %s", (_, list, metadata) => {
    expect(() => serializeSafetensorsHeader(list, metadata)).toThrow(CheckpointError);
  });
});

describe("any bytes", () => {
  /** Reads, and lets nothing but a CheckpointError or a consistent header come out. */
  function check(bytes: Uint8Array): void {
    try {
      const { entries, dataLength, dataOffset } = parseSafetensors(bytes, "x");
      const total = entries.reduce((sum, { begin, end }) => sum + end - begin, 0);
      expect(total).toBe(dataLength);
      expect(dataOffset + dataLength).toBe(bytes.byteLength);
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
    }
  }

  it("give a CheckpointError: random ones", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), check), { numRuns: 1000 });
  });

  it("give a CheckpointError: random JSON as the header", () => {
    fc.assert(
      fc.property(fc.json(), (json) => check(file(json))),
      { numRuns: 500 },
    );
    const entry = fc.record(
      { dtype: fc.anything(), shape: fc.anything(), data_offsets: fc.anything() },
      { requiredKeys: [] },
    );
    const header = fc.dictionary(fc.string(), entry);
    const numeric = (_: string, v: unknown) => (typeof v === "bigint" ? Number(v) : v);
    fc.assert(
      fc.property(header, fc.nat(64), (value, n) => check(file(JSON.stringify(value, numeric), n))),
    );
  });

  it("give a CheckpointError: valid files with bytes changed, cut and added", () => {
    const edit = fc.record({ at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) });
    const property = fc.property(
      tensors,
      fc.array(edit, { maxLength: 4 }),
      fc.nat(),
      fc.uint8Array({ maxLength: 4 }),
      (list, edits, cut, extra) => {
        const bytes = Buffer.from(write(list));
        for (const { at, byte } of edits) bytes[at % bytes.byteLength] = byte;
        check(bytes);
        check(bytes.subarray(0, cut % (bytes.byteLength + 1)));
        check(Buffer.concat([bytes, extra]));
      },
    );
    fc.assert(property, { numRuns: 1000 });
  });
});
