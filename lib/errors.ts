// Typed errors of the library. Each carries a stable `code` and, where one operation is to blame,
// its name in `op`. Pure: imports nothing, so every floor may use it.
// Message style: `<op>: <what> — expected …, got …`, with both operands where there are two.

/** Optional facts about a failure. */
export interface MixprecErrorOptions {
  /** Name of the operation that failed, e.g. `matmul`. */
  op?: string | undefined;
  /** The lower-level error that led here. */
  cause?: unknown;
}

/** Base class of every error this library throws on purpose. */
export class MixprecError extends Error {
  readonly code: string;
  readonly op?: string;

  constructor(code: string, message: string, options: MixprecErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    if (options.op !== undefined) this.op = options.op;
  }
}

/** Shapes that do not fit each other or the operation. */
export class ShapeError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_SHAPE", message, options);
  }
}

/** A dtype the operation does not take, or a pair that does not go together. */
export class DTypeError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_DTYPE", message, options);
  }
}

/** A device that is missing, or operands on different devices. */
export class DeviceError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_DEVICE", message, options);
  }
}

/** An allocation that failed after the cache was freed and the collector had run. */
export class OutOfMemoryError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_OUT_OF_MEMORY", message, options);
  }
}

/** The addon could not be loaded, or broke one of its own invariants. */
export class NativeError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_NATIVE", message, options);
  }
}

/** A checkpoint file that is damaged, or does not fit the model it is loaded into. */
export class CheckpointError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_CHECKPOINT", message, options);
  }
}

/** Why a hub, or its cache, could not give what was asked for. */
export type HubErrorCode =
  | "ERR_HUB_BROKEN_FILE"
  | "ERR_HUB_CACHE"
  | "ERR_HUB_CONNECTION"
  | "ERR_HUB_FILE_NOT_FOUND"
  | "ERR_HUB_FORBIDDEN"
  | "ERR_HUB_GATED"
  | "ERR_HUB_OFFLINE"
  | "ERR_HUB_RATE_LIMITED"
  | "ERR_HUB_REPO_NOT_FOUND"
  | "ERR_HUB_REVISION_NOT_FOUND"
  | "ERR_HUB_SERVER"
  | "ERR_HUB_UNAUTHORIZED"
  | "ERR_HUB_UNSAFE_NAME";

/** A download from a hub that failed; the message says what to do about it. */
export class HubError extends MixprecError {
  constructor(code: HubErrorCode, message: string, options?: MixprecErrorOptions) {
    super(code, message, options);
  }
}

/** Training data or a tokenizer that cannot be used. */
export class DataError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_DATA", message, options);
  }
}

/** An argument or option with a value outside what is allowed. */
export class ArgumentError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_ARGUMENT", message, options);
  }
}

/** Misuse of autograd: no graph, freed graph, saved tensor changed in place. */
export class GradError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_GRAD", message, options);
  }
}

/** A tensor used after `dispose()` or after its `tidy` ended. */
export class DisposedError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_DISPOSED", message, options);
  }
}

/** GradScaler called out of order, or with gradients it cannot unscale. */
export class ScalerError extends MixprecError {
  constructor(message: string, options?: MixprecErrorOptions) {
    super("ERR_SCALER", message, options);
  }
}

/** `<op>: <what> — expected <expected>, got <got>`. */
export function mismatch(op: string, what: string, expected: string, got: string): string {
  return `${op}: ${what} — expected ${expected}, got ${got}`;
}

/** A shape as the messages print it: `[2, 3]`. */
export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}

/** Any value in one short line, for the "got …" part of a message. Never throws. */
export function describe(value: unknown, maxLength = 60): string {
  let text: string;
  if (typeof value === "string") text = JSON.stringify(value);
  else if (typeof value === "bigint") text = `${value}n`;
  else if (typeof value === "function") text = `function ${value.name || "(anonymous)"}`;
  else if (typeof value === "object" && value !== null) text = describeObject(value);
  else text = String(value);
  return text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text;
}

function describeObject(value: object): string {
  if (ArrayBuffer.isView(value) && "length" in value) {
    return `${value.constructor.name}(${String(value.length)})`;
  }
  if (Array.isArray(value)) return `array of ${value.length}`;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return "object";
  try {
    return (value as { constructor: { name: string } }).constructor.name;
  } catch {
    return "object";
  }
}
