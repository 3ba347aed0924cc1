/**
 * Byte cursor over JSON text: white space, literals, numbers, strings, skipping, positions.
 *
 * L0, main isolate. Every method throws `JsonFault` only. Source: spec/observed.md "JSON"; positions as the
 * original reports them: `fault` counts the bytes consumed, `peekFault` includes the byte being looked at.
 */
import { JsonFault, SyntaxText } from "./fault.ts";
import { assembleFloat, assembleInteger, type JsonNumber, OUT_OF_RANGE } from "./number.ts";
import { U64_MAX } from "@schemas/primitives.ts";

/** What `peek` and `next` give at the end of the text. */
export const END = -1;

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const COLON = 0x3a;
const LIST_OPEN = 0x5b;
const BACKSLASH = 0x5c;
const LIST_CLOSE = 0x5d;
const OBJECT_OPEN = 0x7b;
const OBJECT_CLOSE = 0x7d;

/** Bytes with a meaning in JSON. */
export const Byte = {
  NEWLINE,
  QUOTE,
  PLUS,
  COMMA,
  MINUS,
  DOT,
  COLON,
  LIST_OPEN,
  BACKSLASH,
  LIST_CLOSE,
  OBJECT_OPEN,
  OBJECT_CLOSE,
  n: 0x6e,
  t: 0x74,
  f: 0x66,
} as const;

/** True for `0` to `9`. */
export const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;
const isExponent = (byte: number) => byte === 0x65 || byte === 0x45;

const SIMPLE_ESCAPES: ReadonlyMap<number, string> = new Map([
  [QUOTE, '"'],
  [BACKSLASH, "\\"],
  [0x2f, "/"],
  [0x62, "\b"],
  [0x66, "\f"],
  [0x6e, "\n"],
  [0x72, "\r"],
  [0x74, "\t"],
]);
const UNICODE_ESCAPE = 0x75;

const REST_OF_NULL = [0x75, 0x6c, 0x6c];
const REST_OF_TRUE = [0x72, 0x75, 0x65];
const REST_OF_FALSE = [0x61, 0x6c, 0x73, 0x65];

const MAX_EXPONENT = 0x7fff_ffff;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Cursor over `bytes`. */
export class Scanner {
  index = 0;

  constructor(private readonly bytes: Uint8Array) {}

  /** Byte at the cursor, or END. */
  peek(): number {
    return this.index < this.bytes.length ? this.bytes[this.index] : END;
  }

  /** Byte at the cursor, which moves on; or END. */
  next(): number {
    return this.index < this.bytes.length ? this.bytes[this.index++] : END;
  }

  /** Skips white space and gives the byte after it, or END. */
  skipSpace(): number {
    for (;;) {
      const byte = this.peek();
      if (byte !== 0x20 && byte !== NEWLINE && byte !== 0x09 && byte !== 0x0d) return byte;
      this.index++;
    }
  }

  /** Fault at the bytes consumed so far. */
  fault(text: string): JsonFault {
    return this.place(new JsonFault(text), this.index);
  }

  /** Fault at the byte being looked at. */
  peekFault(text: string): JsonFault {
    return this.place(new JsonFault(text), Math.min(this.bytes.length, this.index + 1));
  }

  /** Gives `fault` the present position unless it has one. */
  settle(fault: JsonFault): JsonFault {
    return fault.line === 0 ? this.place(fault, this.index) : fault;
  }

  private place(fault: JsonFault, index: number): JsonFault {
    const lineStart = this.bytes.lastIndexOf(NEWLINE, index - 1) + 1;
    const start = index === 0 ? 0 : lineStart;
    fault.line = 1;
    for (let i = 0; i < start; i++) if (this.bytes[i] === NEWLINE) fault.line++;
    fault.column = index - start;
    return fault;
  }

  private literal(rest: readonly number[]): void {
    this.index++;
    for (const expected of rest) {
      const byte = this.next();
      if (byte === END) throw this.fault(SyntaxText.eofValue);
      if (byte !== expected) throw this.fault(SyntaxText.expectedIdent);
    }
  }

  /** Reads `null`; the cursor is at its first letter. */
  null(): void {
    this.literal(REST_OF_NULL);
  }

  /** Reads `true` or `false`; the cursor is at its first letter. */
  boolean(): boolean {
    const value = this.peek() === Byte.t;
    this.literal(value ? REST_OF_TRUE : REST_OF_FALSE);
    return value;
  }

  /** Reads a number; the cursor is at its sign or first digit. */
  number(): JsonNumber {
    const negative = this.peek() === MINUS;
    if (negative) this.index++;
    const first = this.next();
    if (first === END) throw this.fault(SyntaxText.eofValue);
    if (first === 0x30) {
      if (isDigit(this.peek())) throw this.peekFault(SyntaxText.invalidNumber);
      return this.afterInteger(negative, 0n, 0, true);
    }
    if (!isDigit(first)) throw this.fault(SyntaxText.invalidNumber);
    const start = this.index - 1;
    while (isDigit(this.peek())) this.index++;
    const [significand, dropped] = this.significand(start, this.index, 0n);
    return this.afterInteger(negative, significand, dropped, dropped === 0);
  }

  /** Appends the digits of [start, end) to `value` while it fits 64 bits; gives the number of digits left over. */
  private significand(start: number, end: number, value: bigint): [bigint, number] {
    let result = value;
    for (let i = start; i < end; i++) {
      const grown = result * 10n + BigInt(this.bytes[i] - 0x30);
      if (grown > U64_MAX) return [result, end - i];
      result = grown;
    }
    return [result, 0];
  }

  private afterInteger(negative: boolean, significand: bigint, exponent: number, exact: boolean): JsonNumber {
    const byte = this.peek();
    if (byte === DOT) return this.decimals(negative, significand, exponent);
    if (isExponent(byte)) return this.exponent(negative, significand, exponent);
    return exact ? assembleInteger(negative, significand) : this.float(negative, significand, exponent);
  }

  private decimals(negative: boolean, significand: bigint, exponent: number): JsonNumber {
    this.index++;
    const start = this.index;
    while (isDigit(this.peek())) this.index++;
    if (this.index === start) {
      throw this.peekFault(this.peek() === END ? SyntaxText.eofValue : SyntaxText.invalidNumber);
    }
    const [grown, dropped] = this.significand(start, this.index, significand);
    const scaled = exponent - (this.index - start - dropped);
    return isExponent(this.peek())
      ? this.exponent(negative, grown, scaled)
      : this.float(negative, grown, scaled);
  }

  private exponent(negative: boolean, significand: bigint, exponent: number): JsonNumber {
    this.index++;
    const sign = this.peek();
    if (sign === PLUS || sign === MINUS) this.index++;
    const first = this.next();
    if (first === END) throw this.fault(SyntaxText.eofValue);
    if (!isDigit(first)) throw this.fault(SyntaxText.invalidNumber);
    let value = first - 0x30;
    while (isDigit(this.peek())) {
      const grown = value * 10 + this.peek() - 0x30;
      if (grown > MAX_EXPONENT) return this.hugeExponent(negative, significand, sign !== MINUS);
      value = grown;
      this.index++;
    }
    return this.float(negative, significand, sign === MINUS ? exponent - value : exponent + value);
  }

  private hugeExponent(negative: boolean, significand: bigint, positive: boolean): JsonNumber {
    if (significand !== 0n && positive) throw this.fault(SyntaxText.numberOutOfRange);
    while (isDigit(this.peek())) this.index++;
    return { kind: "float", value: negative ? -0 : 0 };
  }

  private float(negative: boolean, significand: bigint, exponent: number): JsonNumber {
    const value = assembleFloat(negative, significand, exponent);
    if (value === OUT_OF_RANGE) throw this.fault(SyntaxText.numberOutOfRange);
    return { kind: "float", value };
  }

  /** Reads a string; the cursor is at its opening quote. */
  string(): string {
    this.index++;
    let text = "";
    let start = this.index;
    for (;;) {
      const byte = this.nextSpecial();
      if (byte === END) throw this.fault(SyntaxText.eofString);
      if (byte === QUOTE) {
        this.index++;
        return text + this.decode(start, this.index - 1);
      }
      if (byte !== BACKSLASH) {
        this.index++;
        throw this.fault(SyntaxText.controlCharacter);
      }
      const end = this.index;
      this.index++;
      const escaped = this.escape();
      // Undecodable bytes are reported at the end of the string, so a bad escape after them comes first.
      text += this.decodeLoose(start, end) + escaped;
      start = this.index;
    }
  }

  /** Moves to the next quote, backslash or control character and gives it, or END. */
  private nextSpecial(): number {
    const { bytes } = this;
    while (this.index < bytes.length) {
      const byte = bytes[this.index];
      if (byte === QUOTE || byte === BACKSLASH || byte < 0x20) return byte;
      this.index++;
    }
    return END;
  }

  private invalidUtf8 = false;

  private decodeLoose(start: number, end: number): string {
    try {
      return decoder.decode(this.bytes.subarray(start, end));
    } catch {
      this.invalidUtf8 = true;
      return "";
    }
  }

  private decode(start: number, end: number): string {
    const text = this.decodeLoose(start, end);
    if (!this.invalidUtf8) return text;
    this.invalidUtf8 = false;
    throw this.fault(SyntaxText.invalidUnicode);
  }

  private escape(): string {
    const byte = this.next();
    if (byte === END) throw this.fault(SyntaxText.eofString);
    const simple = SIMPLE_ESCAPES.get(byte);
    if (simple !== undefined) return simple;
    if (byte !== UNICODE_ESCAPE) throw this.fault(SyntaxText.invalidEscape);
    const high = this.hex();
    if (high >= 0xdc00 && high <= 0xdfff) throw this.fault(SyntaxText.loneSurrogate);
    if (high < 0xd800 || high > 0xdbff) return String.fromCharCode(high);
    for (const expected of [BACKSLASH, UNICODE_ESCAPE]) {
      const next = this.next();
      if (next === END) throw this.fault(SyntaxText.eofString);
      if (next !== expected) throw this.fault(SyntaxText.unexpectedHexEnd);
    }
    const low = this.hex();
    if (low < 0xdc00 || low > 0xdfff) throw this.fault(SyntaxText.loneSurrogate);
    return String.fromCharCode(high, low);
  }

  private hex(): number {
    if (this.index + 4 > this.bytes.length) {
      this.index = this.bytes.length;
      throw this.fault(SyntaxText.eofString);
    }
    let value = 0;
    for (let i = 0; i < 4; i++) {
      const digit = hexDigit(this.bytes[this.index + i]);
      value = digit < 0 || value < 0 ? -1 : value * 16 + digit;
    }
    this.index += 4;
    if (value < 0) throw this.fault(SyntaxText.invalidEscape);
    return value;
  }

  private skipString(): void {
    this.index++;
    for (;;) {
      const byte = this.nextSpecial();
      if (byte === END) throw this.fault(SyntaxText.eofString);
      if (byte === QUOTE) {
        this.index++;
        return;
      }
      if (byte !== BACKSLASH) throw this.fault(SyntaxText.controlCharacter);
      this.index++;
      const escaped = this.next();
      if (escaped === END) throw this.fault(SyntaxText.eofString);
      if (escaped === UNICODE_ESCAPE) this.hex();
      else if (!SIMPLE_ESCAPES.has(escaped)) throw this.fault(SyntaxText.invalidEscape);
    }
  }

  private skipNumber(): void {
    if (this.peek() === MINUS) this.index++;
    const first = this.next();
    if (first === 0x30) {
      if (isDigit(this.peek())) throw this.peekFault(SyntaxText.invalidNumber);
    } else if (isDigit(first)) {
      while (isDigit(this.peek())) this.index++;
    } else {
      throw this.fault(SyntaxText.invalidNumber);
    }
    if (this.peek() === DOT) {
      this.index++;
      if (!isDigit(this.peek())) throw this.peekFault(SyntaxText.invalidNumber);
      while (isDigit(this.peek())) this.index++;
    }
    if (isExponent(this.peek())) {
      this.index++;
      if (this.peek() === PLUS || this.peek() === MINUS) this.index++;
      if (!isDigit(this.next())) throw this.fault(SyntaxText.invalidNumber);
      while (isDigit(this.peek())) this.index++;
    }
  }

  /** Skips a scalar, or enters a list or object and gives its opening byte. */
  private skipScalar(): number {
    const byte = this.skipSpace();
    if (byte === END) throw this.peekFault(SyntaxText.eofValue);
    if (byte === Byte.n) this.null();
    else if (byte === Byte.t || byte === Byte.f) this.boolean();
    else if (byte === MINUS || isDigit(byte)) this.skipNumber();
    else if (byte === QUOTE) this.skipString();
    else if (byte === LIST_OPEN || byte === OBJECT_OPEN) {
      this.index++;
      return byte;
    } else throw this.peekFault(SyntaxText.expectedValue);
    return END;
  }

  /** Skips any value. Nesting is limited by the text's length only: nothing here recurses. */
  skipValue(): void {
    const open: number[] = [];
    do {
      const entered = this.skipScalar();
      if (entered !== END) open.push(entered);
      let acceptComma = entered === END;
      while (open.length > 0) {
        const isList = open[open.length - 1] === LIST_OPEN;
        const byte = this.skipSpace();
        if (byte === END) throw this.peekFault(isList ? SyntaxText.eofList : SyntaxText.eofObject);
        if (byte === (isList ? LIST_CLOSE : OBJECT_CLOSE)) {
          this.index++;
          open.pop();
          acceptComma = true;
          continue;
        }
        if (acceptComma) {
          if (byte !== COMMA) {
            throw this.peekFault(
              isList ? SyntaxText.expectedListCommaOrEnd : SyntaxText.expectedObjectCommaOrEnd,
            );
          }
          this.index++;
        }
        if (!isList) this.skipKey();
        break;
      }
    } while (open.length > 0);
  }

  private skipKey(): void {
    const byte = this.skipSpace();
    if (byte === END) throw this.peekFault(SyntaxText.eofObject);
    if (byte !== QUOTE) throw this.peekFault(SyntaxText.keyMustBeString);
    this.skipString();
    this.colon();
  }

  /** Reads the colon after a key. */
  colon(): void {
    const byte = this.skipSpace();
    if (byte === END) throw this.peekFault(SyntaxText.eofObject);
    if (byte !== COLON) throw this.peekFault(SyntaxText.expectedColon);
    this.index++;
  }

  /** True when another list element follows; the cursor is inside the list. */
  nextElement(first: boolean): boolean {
    const byte = this.skipSpace();
    if (byte === END) throw this.peekFault(SyntaxText.eofList);
    if (byte === LIST_CLOSE) return false;
    if (first) return true;
    if (byte !== COMMA) throw this.peekFault(SyntaxText.expectedListCommaOrEnd);
    this.index++;
    const after = this.skipSpace();
    if (after === LIST_CLOSE) throw this.peekFault(SyntaxText.trailingComma);
    if (after === END) throw this.peekFault(SyntaxText.eofValue);
    return true;
  }

  /** The next key of an object, or undefined at its end; the cursor is inside the object. */
  nextKey(first: boolean): string | undefined {
    let byte = this.skipSpace();
    if (byte === END) throw this.peekFault(SyntaxText.eofObject);
    if (byte === OBJECT_CLOSE) return undefined;
    if (!first) {
      if (byte !== COMMA) throw this.peekFault(SyntaxText.expectedObjectCommaOrEnd);
      this.index++;
      byte = this.skipSpace();
      if (byte === OBJECT_CLOSE) throw this.peekFault(SyntaxText.trailingComma);
      if (byte === END) throw this.peekFault(SyntaxText.eofValue);
    }
    if (byte !== QUOTE) throw this.peekFault(SyntaxText.keyMustBeString);
    return this.string();
  }

  /** Reads the end of a list. */
  closeList(): void {
    const byte = this.skipSpace();
    if (byte === END) throw this.peekFault(SyntaxText.eofList);
    if (byte === LIST_CLOSE) {
      this.index++;
      return;
    }
    if (byte === COMMA) {
      this.index++;
      if (this.skipSpace() === LIST_CLOSE) throw this.peekFault(SyntaxText.trailingComma);
    }
    throw this.peekFault(SyntaxText.trailingCharacters);
  }

  /** Reads the end of an object. */
  closeObject(): void {
    const byte = this.skipSpace();
    if (byte === END) throw this.peekFault(SyntaxText.eofObject);
    if (byte === OBJECT_CLOSE) {
      this.index++;
      return;
    }
    throw this.peekFault(byte === COMMA ? SyntaxText.trailingComma : SyntaxText.trailingCharacters);
  }
}

function hexDigit(byte: number): number {
  if (isDigit(byte)) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
