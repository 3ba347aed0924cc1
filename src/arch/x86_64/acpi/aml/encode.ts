/**
 * AML byte encodings: package lengths, names, constants, buffers.
 *
 * L2, any isolate; pure. Terms are built as strings of one character per byte: V8 joins strings without copying, which
 * makes the cold build of a DSDT several times faster than joining byte arrays. Source: ACPI 6.5 §20.2.
 */

/** Encoded AML: a term, an argument, or a list of them. One character, 0 to 255, per byte. */
export type Aml = string;

/** One byte. */
export function byte(value: number): Aml {
  return String.fromCharCode(value);
}

/** Several bytes. */
export function op(...bytes: readonly number[]): Aml {
  return String.fromCharCode(...bytes);
}

/** Encoded AML as bytes. */
export function amlBytes(aml: Aml): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(aml.length);
  for (let i = 0; i < aml.length; i++) bytes[i] = aml.charCodeAt(i);
  return bytes;
}

/** Bytes as encoded AML. */
export function bytesAml(bytes: ArrayLike<number>): Aml {
  let aml = "";
  for (let i = 0; i < bytes.length; i++) aml += String.fromCharCode(bytes[i]);
  return aml;
}

/** A little-endian word; higher bits are cut. */
export function word(value: number): Aml {
  return String.fromCharCode(value & 0xff, (value >>> 8) & 0xff);
}

/** A little-endian double word; higher bits are cut. */
export function dword(value: number): Aml {
  return word(value) + word(value >>> 16);
}

/** A little-endian quad word: an integer below 2^53, or a bigint. */
export function qword(value: number | bigint): Aml {
  if (typeof value === "number") {
    return dword(value % 0x1_0000_0000) + dword(Math.floor(value / 0x1_0000_0000));
  }
  return dword(Number(value & 0xffff_ffffn)) + dword(Number(value >> 32n));
}

/** Bits of a length that fit the lead byte, alone or with following bytes (§20.2.4). */
const LEAD_ONLY_LIMIT = 64;
const LEAD_BITS = 4;
const MAX_FOLLOWING_BYTES = 3;

/** A length in the variable form, taken as it is (field widths). */
export function encodeLength(length: number): Aml {
  if (length < LEAD_ONLY_LIMIT) return byte(length);
  for (let following = 1; following <= MAX_FOLLOWING_BYTES; following++) {
    if (length >= 1 << (LEAD_BITS + 8 * following)) continue;
    let encoded = byte((following << 6) | (length & 0xf));
    for (let i = 0; i < following; i++) encoded += byte((length >> (LEAD_BITS + 8 * i)) & 0xff);
    return encoded;
  }
  throw new RangeError(`AML length ${length} does not fit 28 bits`);
}

/** `content` with a package length before it that counts itself. */
export function withPackageLength(content: Aml): Aml {
  if (content.length + 1 < LEAD_ONLY_LIMIT) return byte(content.length + 1) + content;
  for (let lengthBytes = 2; lengthBytes <= MAX_FOLLOWING_BYTES + 1; lengthBytes++) {
    const total = encodeLength(content.length + lengthBytes);
    if (total.length === lengthBytes) return total + content;
  }
  throw new RangeError(`AML package of ${content.length} bytes does not fit 28 bits`);
}

const DUAL_NAME_PREFIX = "\x2e";
const MULTI_NAME_PREFIX = "\x2f";
const NAME_SEGMENT = /^[A-Z_][A-Z0-9_]{0,3}$/;

/** Paths already encoded: a DSDT uses a few dozen of them hundreds of times. */
const encodedPaths = new Map<string, Aml>();

/**
 * A name or path such as `_HID`, `_SB_.PC00` or `\_SB_.PC00.PCNT`; segments are padded with `_`.
 *
 * @throws RangeError for anything that is no AML name (ours, never a guest's)
 */
export function path(name: string): Aml {
  let encoded = encodedPaths.get(name);
  if (encoded === undefined) encodedPaths.set(name, encoded = encodePath(name));
  return encoded;
}

function encodePath(name: string): Aml {
  const root = name.startsWith("\\") ? "\\" : "";
  const segments = name.slice(root.length).split(".").map((segment) => {
    if (!NAME_SEGMENT.test(segment)) throw new RangeError(`Not an AML name: "${name}"`);
    return segment.padEnd(4, "_");
  });
  const prefix = segments.length === 1
    ? ""
    : segments.length === 2
    ? DUAL_NAME_PREFIX
    : MULTI_NAME_PREFIX + byte(segments.length);
  return root + prefix + segments.join("");
}

const ZERO_OP = "\x00";
const ONE_OP = "\x01";
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = "\x0b";
const DWORD_PREFIX = "\x0c";
const STRING_PREFIX = "\x0d";
const QWORD_PREFIX = "\x0e";

/** An integer in its shortest form. */
export function integer(value: number): Aml {
  if (value === 0) return ZERO_OP;
  if (value === 1) return ONE_OP;
  if (value <= 0xff) return String.fromCharCode(BYTE_PREFIX, value);
  if (value <= 0xffff) return WORD_PREFIX + word(value);
  if (value <= 0xffff_ffff) return DWORD_PREFIX + dword(value);
  return QWORD_PREFIX + qword(value);
}

/** A NUL-terminated ASCII string. */
export function string(text: string): Aml {
  return STRING_PREFIX + text + ZERO_OP;
}

/** A seven-character EISA id such as `PNP0A08`, compressed into a dword. */
export function eisaId(id: string): Aml {
  const letter = (i: number) => id.charCodeAt(i) - 0x40;
  const digit = (i: number) => parseInt(id[i], 16);
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  return DWORD_PREFIX +
    op(vendor >> 8, vendor & 0xff, (digit(3) << 4) | digit(4), (digit(5) << 4) | digit(6));
}

const BUFFER_OP = "\x11";
const PACKAGE_OP = "\x12";

/** A buffer of constant bytes, given as encoded AML. */
export function buffer(bytes: Aml): Aml {
  return BUFFER_OP + withPackageLength(integer(bytes.length) + bytes);
}

/** A UUID as `ToUUID` gives it: the first three groups little-endian. */
export function uuid(text: string): Aml {
  const bytes = text.replaceAll("-", "").match(/../g)!.map((pair) => parseInt(pair, 16));
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return buffer(bytesAml(order.map((i) => bytes[i])));
}

/** A package of encoded elements, at most 255. */
export function packageOf(...elements: readonly Aml[]): Aml {
  return PACKAGE_OP + withPackageLength(byte(elements.length) + elements.join(""));
}
