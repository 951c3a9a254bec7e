// What JSON.parse lets pass but a strict reader must not: repeated keys, numbers in arrays that are
// not written as whole numbers, text that is no Unicode.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Index behind the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return at + 1;
}

/** Whether the string that ends before `end` is a key: a colon follows. */
function isKey(text: string, end: number): boolean {
  let at = end;
  while (" \t\r\n".includes(text[at] ?? "x")) at++;
  return text[at] === ":";
}

/**
 * The first fault in a text that JSON.parse has taken, in words; null where there is none. Sizes
 * and offsets stand in arrays, so a number there has to be of digits alone: `2.0` and `1e3` are
 * faults.
 */
export function findJsonFault(text: string): string | null {
  // For each open bracket: the keys seen in an object, null for an array.
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < text.length;) {
    const c = text[at]!;
    if (c === '"') {
      const end = endOfString(text, at);
      const raw = text.slice(at, end);
      if (raw.includes("\\u") && /\p{Surrogate}/u.test(JSON.parse(raw) as string)) {
        return `text that is not Unicode: ${raw}`;
      }
      const keys = open.at(-1);
      if (keys && isKey(text, end)) {
        const key = JSON.parse(raw) as string;
        if (keys.has(key)) return `the key ${raw} twice in one object`;
        keys.add(key);
      }
      at = end;
      continue;
    }
    if (c === "{") open.push(new Set());
    else if (c === "[") open.push(null);
    else if (c === "}" || c === "]") open.pop();
    else if (open.at(-1) === null && /[-0-9]/.test(c)) {
      const number = /^[-+.0-9eE]+/.exec(text.slice(at, at + 400))![0];
      if (!/^\d+$/.test(number)) return `a number that is not a whole one of at least 0: ${number}`;
      at += number.length;
      continue;
    }
    at++;
  }
  return null;
}
