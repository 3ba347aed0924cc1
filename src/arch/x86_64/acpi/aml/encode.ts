/**
 * AML byte encodings: package lengths, names, constants, buffers.
 *
 * L2, any isolate; pure. Source: ACPI 6.5 §20.2.
 */

/** Encoded AML: a term, an argument, or a list of them. */
export type Aml = Uint8Array<ArrayBuffer>;

/** Joins encoded parts. */
export function concat(...parts: readonly Uint8Array[]): Aml {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

/** Opcode bytes. */
export function op(...bytes: readonly number[]): Aml {
  return Uint8Array.from(bytes);
}

const ASCII = new TextEncoder();

/** Bits of a length that fit the lead byte, alone or with following bytes (§20.2.4). */
const LEAD_ONLY_LIMIT = 64;
const LEAD_BITS = 4;
const MAX_FOLLOWING_BYTES = 3;

/** A length in the variable form, taken as it is (field widths). */
export function encodeLength(length: number): Aml {
  if (length < LEAD_ONLY_LIMIT) return op(length);
  for (let following = 1; following <= MAX_FOLLOWING_BYTES; following++) {
    if (length >= 1 << (LEAD_BITS + 8 * following)) continue;
    const bytes = [(following << 6) | (length & 0xf)];
    for (let i = 0; i < following; i++) bytes.push((length >> (LEAD_BITS + 8 * i)) & 0xff);
    return Uint8Array.from(bytes);
  }
  throw new RangeError(`AML length ${length} does not fit 28 bits`);
}

/** `content` with a package length before it that counts itself. */
export function withPackageLength(content: Uint8Array): Aml {
  for (let lengthBytes = 1; lengthBytes <= MAX_FOLLOWING_BYTES + 1; lengthBytes++) {
    const total = encodeLength(content.length + lengthBytes);
    if (total.length === lengthBytes) return concat(total, content);
  }
  throw new RangeError(`AML package of ${content.length} bytes does not fit 28 bits`);
}

const ROOT_CHAR = 0x5c;
const DUAL_NAME_PREFIX = 0x2e;
const MULTI_NAME_PREFIX = 0x2f;
const NAME_SEGMENT = /^[A-Z_][A-Z0-9_]{0,3}$/;

/**
 * A name or path such as `_HID`, `_SB_.PC00` or `\_SB_.PC00.PCNT`; segments are padded with `_`.
 *
 * @throws RangeError for anything that is no AML name (ours, never a guest's)
 */
export function path(name: string): Aml {
  const absolute = name.startsWith("\\");
  const segments = name.slice(absolute ? 1 : 0).split(".");
  const encoded = segments.map((segment) => {
    if (!NAME_SEGMENT.test(segment)) throw new RangeError(`Not an AML name: "${name}"`);
    return ASCII.encode(segment.padEnd(4, "_"));
  });
  const prefix = segments.length === 1
    ? []
    : segments.length === 2
    ? [DUAL_NAME_PREFIX]
    : [MULTI_NAME_PREFIX, segments.length];
  return concat(op(...(absolute ? [ROOT_CHAR] : []), ...prefix), ...encoded);
}

const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const QWORD_PREFIX = 0x0e;

/** An integer in its shortest form. */
export function integer(value: number): Aml {
  if (value === 0) return op(ZERO_OP);
  if (value === 1) return op(ONE_OP);
  if (value <= 0xff) return op(BYTE_PREFIX, value);
  const bytes = new Uint8Array(9);
  const view = new DataView(bytes.buffer);
  if (value <= 0xffff) {
    bytes[0] = WORD_PREFIX;
    view.setUint16(1, value, true);
    return bytes.slice(0, 3);
  }
  if (value <= 0xffff_ffff) {
    bytes[0] = DWORD_PREFIX;
    view.setUint32(1, value, true);
    return bytes.slice(0, 5);
  }
  bytes[0] = QWORD_PREFIX;
  view.setBigUint64(1, BigInt(value), true);
  return bytes;
}

/** A NUL-terminated ASCII string. */
export function string(text: string): Aml {
  return concat(op(STRING_PREFIX), ASCII.encode(text), op(0));
}

/** A seven-character EISA id such as `PNP0A08`, compressed into a dword. */
export function eisaId(id: string): Aml {
  const letter = (i: number) => id.charCodeAt(i) - 0x40;
  const digit = (i: number) => parseInt(id[i], 16);
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  return op(
    DWORD_PREFIX,
    vendor >> 8,
    vendor & 0xff,
    (digit(3) << 4) | digit(4),
    (digit(5) << 4) | digit(6),
  );
}

const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;

/** A buffer of constant bytes. */
export function buffer(bytes: ArrayLike<number>): Aml {
  return concat(
    op(BUFFER_OP),
    withPackageLength(concat(integer(bytes.length), Uint8Array.from(bytes))),
  );
}

/** A UUID as `ToUUID` gives it: the first three groups little-endian. */
export function uuid(text: string): Aml {
  const bytes = text.replaceAll("-", "").match(/../g)!.map((pair) => parseInt(pair, 16));
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return buffer(order.map((i) => bytes[i]));
}

/** A package of encoded elements, at most 255. */
export function packageOf(...elements: readonly Aml[]): Aml {
  return concat(op(PACKAGE_OP), withPackageLength(concat(op(elements.length), ...elements)));
}
