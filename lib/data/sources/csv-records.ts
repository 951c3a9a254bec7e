// Splits CSV (RFC 4180) into records as bytes come in. Written for data that is not all well-formed:
// a record with a fault ends where its line does, so one stray quote costs one row and not the rest
// of the file, and every record knows the line it begins in.

const LF = 0x0a;
const CR = 0x0d;
const QUOTE = 0x22;

/** A record: its fields, or what is wrong with it. */
export type CsvRecord = { readonly line: number } & (
  { readonly fields: readonly Buffer[] } | { readonly fault: string }
);

const FAULTS = {
  inside: 'broken quotes: a quote inside a field that is not quoted (write "")',
  behind: "broken quotes: text follows the closing quote of a field",
  open: "broken quotes: a quoted field is not closed before the end of the file",
} as const;

const enum State {
  /** At the first byte of a field. */
  Begin,
  Plain,
  Quoted,
  /** Behind a quote in a quoted field: its end, or the first of two that stand for one. */
  Behind,
  /** In a record with a fault. */
  Broken,
}

/** Takes blocks of bytes and gives records. */
export class CsvSplitter {
  /** Bytes of a record that began in an earlier block. */
  pending = 0;
  private begun: Buffer[] = [];
  private state = State.Begin;
  private fault: string | null = null;
  private line = 1;
  private firstLine = 1;
  private afterReturn = false;

  /** @param quoting whether a double quote begins a quoted field */
  constructor(
    private readonly delimiter: number,
    private readonly quoting: boolean,
  ) {}

  /** The records that end in this block, which it keeps. */
  *records(block: Buffer): Generator<CsvRecord, void> {
    const { delimiter, quoting } = this;
    let start = 0;
    let { state } = this;
    for (let at = 0; at < block.length; at++) {
      const byte = block[at]!;
      if (byte === LF || byte === CR) {
        const second = byte === LF && this.afterReturn;
        this.afterReturn = byte === CR;
        if (!second) this.line++;
        if (state === State.Quoted) continue;
        // A line feed that belongs to a carriage return ends an empty record, which is none.
        const record = this.finish(block.subarray(start, at));
        if (record !== null) yield record;
        start = at + 1;
        state = State.Begin;
        this.firstLine = this.line;
        continue;
      }
      this.afterReturn = false;
      switch (state) {
        case State.Begin:
        case State.Plain:
          if (byte === delimiter) state = State.Begin;
          else if (byte !== QUOTE || !quoting) state = State.Plain;
          else if (state === State.Begin) state = State.Quoted;
          else {
            this.fault = FAULTS.inside;
            state = State.Broken;
          }
          break;
        case State.Quoted:
          if (byte === QUOTE) state = State.Behind;
          break;
        case State.Behind:
          if (byte === QUOTE) state = State.Quoted;
          else if (byte === delimiter) state = State.Begin;
          else {
            this.fault = FAULTS.behind;
            state = State.Broken;
          }
          break;
        case State.Broken:
      }
    }
    this.state = state;
    if (start < block.length) {
      this.begun.push(block.subarray(start));
      this.pending += block.length - start;
    }
  }

  /** What the last line holds where it does not end in a line break. */
  rest(): CsvRecord | null {
    if (this.state === State.Quoted) this.fault = FAULTS.open;
    return this.finish(Buffer.alloc(0));
  }

  /** The record that ends with these bytes; null for an empty line. */
  private finish(last: Buffer): CsvRecord | null {
    const { begun, fault, firstLine: line } = this;
    const bytes = begun.length === 0 ? last : Buffer.concat([...begun, last]);
    this.begun = [];
    this.pending = 0;
    this.fault = null;
    if (bytes.length === 0) return null;
    return fault === null ? { line, fields: this.fieldsOf(bytes) } : { line, fault };
  }

  private fieldsOf(bytes: Buffer): Buffer[] {
    const fields: Buffer[] = [];
    for (let start = 0; start <= bytes.length;) {
      const quoted = this.quoting && bytes[start] === QUOTE;
      const end = quoted ? closingQuote(bytes, start) : bytes.indexOf(this.delimiter, start);
      const stop = end < 0 ? bytes.length : end;
      fields.push(quoted ? unescape(bytes.subarray(start + 1, stop)) : bytes.subarray(start, stop));
      start = (quoted ? stop + 1 : stop) + 1;
    }
    return fields;
  }
}

/** The quote that closes the field that one opens: the first that is not followed by another. */
function closingQuote(bytes: Buffer, open: number): number {
  let at = bytes.indexOf(QUOTE, open + 1);
  while (bytes[at + 1] === QUOTE) at = bytes.indexOf(QUOTE, at + 2);
  return at;
}

/** Content of a quoted field, where two quotes stand for one. */
function unescape(bytes: Buffer): Buffer {
  let quote = bytes.indexOf(QUOTE);
  if (quote < 0) return bytes;
  const out = Buffer.alloc(bytes.length);
  let [from, to] = [0, 0];
  while (quote >= 0) {
    to += bytes.copy(out, to, from, quote + 1);
    from = quote + 2;
    quote = bytes.indexOf(QUOTE, from);
  }
  to += bytes.copy(out, to, from);
  return out.subarray(0, to);
}
