// Names that come from users, servers and files, checked before they become paths or addresses.

import { ArgumentError, describe, HubError } from "../../errors.js";

const OP = "hub";
const MAX_NAME = 96;

/** Whether a text could be the name of a repository: `name` or `owner/name`. */
export function isRepoName(text: string): boolean {
  return (
    text.length <= MAX_NAME &&
    /^([\w.-]+\/)?[\w.-]+$/.test(text) &&
    text.split("/").every((part) => /^[^.-].*[^.-]$|^[^.-]$/.test(part)) &&
    !/--|\.\.|\.git$/.test(text)
  );
}

/** Throws ArgumentError unless `name` could be that of a repository. */
export function checkRepoName(name: string): void {
  if (typeof name === "string" && isRepoName(name)) return;
  throw new ArgumentError(
    `${OP}: expected the name of a repository, "owner/name" or "name", of letters, digits, -, _ ` +
      `and . (no "--" or ".."), got ${describe(name)}`,
    { op: OP },
  );
}

/** Whether a relative name with / between its parts stays inside the directory it is put in. */
export function isInside(name: string): boolean {
  return name.split("/").every(
    // eslint-disable-next-line no-control-regex -- they are what is looked for
    (part) => part !== "" && part !== "." && part !== ".." && !/[\\\u0000-\u001f]|^\w:/.test(part),
  );
}

/**
 * Throws HubError unless a name from a server or a file stays inside the directory it is put in.
 * @param what what the name is, for the message
 */
export function checkInside(name: unknown, what: string): asserts name is string {
  if (typeof name === "string" && isInside(name)) return;
  throw new HubError(
    "ERR_HUB_UNSAFE_NAME",
    `${OP}: ${what} — expected a name inside the repository, got ${describe(name)}; refused`,
    { op: OP },
  );
}

/** Whether a text is a commit: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits. */
export function isCommit(text: string): boolean {
  return /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(text);
}
