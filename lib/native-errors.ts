// Errors of the addon, which carry a code, as errors of the library.

import {
  ArgumentError,
  DeviceError,
  DTypeError,
  NativeError,
  OutOfMemoryError,
  ShapeError,
  type MixprecError,
} from "./errors.js";

const ERROR_CLASSES: Record<string, new (message: string, options?: object) => MixprecError> = {
  ERR_SHAPE: ShapeError,
  ERR_DTYPE: DTypeError,
  ERR_DEVICE: DeviceError,
  ERR_OUT_OF_MEMORY: OutOfMemoryError,
  ERR_ARGUMENT: ArgumentError,
};

/** The error of the class that the code of `cause` names; `cause` itself where it is no error. */
export function typedError(cause: unknown, op: string | undefined): unknown {
  if (!(cause instanceof Error)) return cause;
  const code = (cause as { code?: unknown }).code;
  const ErrorClass = (typeof code === "string" ? ERROR_CLASSES[code] : null) ?? NativeError;
  const message = op === undefined ? cause.message : `${op}: ${cause.message}`;
  return new ErrorClass(message, { op, cause });
}
