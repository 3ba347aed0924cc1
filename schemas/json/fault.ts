/**
 * What went wrong while reading JSON, and the texts for it.
 *
 * L0, main isolate. Source: spec/observed.md "JSON"; texts and positions as the original reports them.
 */

/** Texts of syntax errors. */
export const SyntaxText = {
  eofList: "EOF while parsing a list",
  eofObject: "EOF while parsing an object",
  eofString: "EOF while parsing a string",
  eofValue: "EOF while parsing a value",
  expectedColon: "expected `:`",
  expectedListCommaOrEnd: "expected `,` or `]`",
  expectedObjectCommaOrEnd: "expected `,` or `}`",
  expectedIdent: "expected ident",
  expectedValue: "expected value",
  invalidEscape: "invalid escape",
  invalidNumber: "invalid number",
  numberOutOfRange: "number out of range",
  invalidUnicode: "invalid unicode code point",
  controlCharacter: "control character (\\u0000-\\u001F) found while parsing a string",
  keyMustBeString: "key must be a string",
  loneSurrogate: "lone leading surrogate in hex escape",
  trailingComma: "trailing comma",
  trailingCharacters: "trailing characters",
  unexpectedHexEnd: "unexpected end of hex escape",
  recursionLimit: "recursion limit exceeded",
} as const;

/**
 * A reading error on its way up. Thrown inside this folder only and caught by `readJson`; not an `Error`,
 * because a stack trace per refused request would be its main cost.
 */
export class JsonFault {
  /** 1-based line, 0 while the position is not known yet. */
  line = 0;
  /** Bytes before the position on its line. */
  column = 0;
  /** Field names and list indices from the root, filled in on the way up. */
  readonly path: (string | number)[] = [];

  constructor(readonly text: string) {}

  /** Text with its position. */
  get message(): string {
    return this.line === 0 ? this.text : `${this.text} at line ${this.line} column ${this.column}`;
  }

  /** Path from the root, as `disks[1].queue_size`. */
  get fieldPath(): string {
    let text = "";
    for (const part of this.path) {
      text += typeof part === "number" ? `[${part}]` : text === "" ? part : `.${part}`;
    }
    return text;
  }
}

/** `expected` list of an unknown name: "`a`", "`a` or `b`", "one of `a`, `b`, `c`". */
export function expectedNames(names: readonly string[]): string {
  const quoted = names.map((name) => `\`${name}\``);
  if (quoted.length === 0) return "there are no fields";
  if (quoted.length === 1) return `expected ${quoted[0]}`;
  if (quoted.length === 2) return `expected ${quoted[0]} or ${quoted[1]}`;
  return `expected one of ${quoted.join(", ")}`;
}

// What the original's language calls unprintable: controls, formats, unassigned, private use, separators other
// than the space, and marks that would join the character before them.
const UNPRINTABLE = /[\p{C}\p{Z}\p{Grapheme_Extend}]/u;
const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  "\0": "\\0",
  "\t": "\\t",
  "\n": "\\n",
  "\r": "\\r",
  '"': '\\"',
  "\\": "\\\\",
};

/** `text` in double quotes with unprintable characters escaped, as the original shows strings in messages. */
export function quoted(text: string): string {
  let out = '"';
  for (const char of text) {
    const short = SHORT_ESCAPES[char];
    if (short !== undefined) out += short;
    else if (char !== " " && UNPRINTABLE.test(char)) out += `\\u{${char.codePointAt(0)!.toString(16)}}`;
    else out += char;
  }
  return out + '"';
}

/**
 * A double in the original's notation: always with a fraction or an exponent, plain from 1e-5 to below 1e16.
 */
export function floatText(value: number): string {
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [mantissa, exponentText] = value.toExponential().split("e");
  const exponent = Number(exponentText);
  if (exponent < -5 || exponent >= 16) return `${mantissa}e${exponentText}`;
  const negative = mantissa.startsWith("-");
  const digits = mantissa.replace("-", "").replace(".", "");
  let plain: string;
  if (exponent < 0) plain = `0.${"0".repeat(-exponent - 1)}${digits}`;
  else if (digits.length <= exponent + 1) plain = `${digits}${"0".repeat(exponent + 1 - digits.length)}.0`;
  else plain = `${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`;
  return negative ? `-${plain}` : plain;
}
