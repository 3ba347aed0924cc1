/**
 * D-Bus messages as bytes and back: headers of any message, bodies made of strings.
 *
 * L6, pure. The API's methods take at most one string and give at most one, so hardly any other type is needed in bodies;
 * what else the bus sends is skipped by its length. Source: D-Bus Specification 0.43, "Message Protocol".
 */

/** Kinds of message. */
export const MessageType = { call: 1, reply: 2, error: 3, signal: 4 } as const;
/** Message flag: the caller wants no reply. */
export const NO_REPLY_EXPECTED = 1;

const LITTLE_ENDIAN = 0x6c; // 'l'
const BIG_ENDIAN = 0x42; // 'B'
const PROTOCOL_VERSION = 1;
/** Bytes of the fixed part: up to and with the length of the header fields. */
export const FIXED_HEADER_BYTES = 16;
const ALIGNMENT = 8;

/** Header fields by code, with the type each has. */
const FIELDS = {
  path: { code: 1, type: "o" },
  interface: { code: 2, type: "s" },
  member: { code: 3, type: "s" },
  errorName: { code: 4, type: "s" },
  replySerial: { code: 5, type: "u" },
  destination: { code: 6, type: "s" },
  sender: { code: 7, type: "s" },
  signature: { code: 8, type: "g" },
} as const;
type FieldName = keyof typeof FIELDS;
const NAME_OF_CODE = new Map<number, FieldName>(
  Object.entries(FIELDS).map(([name, { code }]) => [code, name as FieldName]),
);

/** A message's header fields. */
export interface BusHeader {
  readonly type: number;
  readonly flags: number;
  readonly serial: number;
  readonly path?: string;
  readonly interface?: string;
  readonly member?: string;
  readonly errorName?: string;
  readonly replySerial?: number;
  readonly destination?: string;
  readonly sender?: string;
  readonly signature?: string;
}

/** A dictionary from names to variants without entries: the properties of an interface that has none. */
export const NO_PROPERTIES = Symbol("a{sv}");
/** What bodies that are sent are made of: strings, numbers (`RequestName`), and the empty dictionary. */
export type BusValue = string | number | typeof NO_PROPERTIES;

/** A message to send. */
export interface OutgoingMessage extends Omit<BusHeader, "flags" | "signature"> {
  readonly flags?: number;
  readonly body?: readonly BusValue[];
}

/** Where the parts of a message end, known from its first 16 bytes. */
export interface MessageExtent {
  /** Fixed part and header fields with their padding. */
  readonly headerBytes: number;
  readonly bodyBytes: number;
}

const alignUp = (length: number, to: number) => Math.ceil(length / to) * to;
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Grows as it is written; offsets count from the beginning of the message or body. */
class Writer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  #reserve(count: number): number {
    const at = this.length;
    this.length += count;
    if (this.length > this.#bytes.length) {
      const grown = new Uint8Array(this.length * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }

  align(to: number): void {
    this.#reserve(alignUp(this.length, to) - this.length);
  }

  byte(value: number): void {
    const at = this.#reserve(1);
    this.#view.setUint8(at, value);
  }

  u32(value: number): void {
    this.align(4);
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
  }

  patchU32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u32(bytes.length);
    const at = this.#reserve(bytes.length + 1);
    this.#bytes.set(bytes, at);
  }

  signature(text: string): void {
    this.byte(text.length);
    for (const character of text) this.byte(character.charCodeAt(0));
    this.byte(0);
  }

  raw(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
  }

  done(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.length);
  }
}

function writeField(out: Writer, name: FieldName, value: string | number): void {
  const { code, type } = FIELDS[name];
  out.align(ALIGNMENT);
  out.byte(code);
  out.signature(type);
  if (type === "u") out.u32(value as number);
  else if (type === "g") out.signature(value as string);
  else out.string(value as string);
}

/** Writes a value; returns its type. */
function writeValue(out: Writer, value: BusValue): string {
  switch (typeof value) {
    case "string":
      out.string(value);
      return "s";
    case "number":
      out.u32(value);
      return "u";
    default:
      out.u32(0);
      out.align(ALIGNMENT); // entries would begin here
      return "a{sv}";
  }
}

/** The bytes of a message, little-endian. */
export function encodeMessage(message: OutgoingMessage): Uint8Array<ArrayBuffer> {
  const body = new Writer();
  const signature = (message.body ?? []).map((value) => writeValue(body, value)).join("");
  const out = new Writer();
  out.byte(LITTLE_ENDIAN);
  out.byte(message.type);
  out.byte(message.flags ?? 0);
  out.byte(PROTOCOL_VERSION);
  out.u32(body.length);
  out.u32(message.serial);
  out.u32(0);
  const fields: Partial<Record<FieldName, string | number>> = {
    ...message,
    signature: signature || undefined,
  };
  for (const name of Object.keys(FIELDS) as FieldName[]) {
    const value = fields[name];
    if (value !== undefined) writeField(out, name, value);
  }
  out.patchU32(FIXED_HEADER_BYTES - 4, out.length - FIXED_HEADER_BYTES);
  out.align(ALIGNMENT);
  out.raw(body.done());
  return out.done();
}

function isLittleEndian(bytes: Uint8Array): boolean {
  if (bytes[0] !== LITTLE_ENDIAN && bytes[0] !== BIG_ENDIAN) throw new Error("Not a D-Bus message");
  return bytes[0] === LITTLE_ENDIAN;
}

/** Where the message's parts end. `fixed`: its first 16 bytes. @throws Error if this is no message */
export function messageExtent(fixed: Uint8Array): MessageExtent {
  const view = new DataView(fixed.buffer, fixed.byteOffset, FIXED_HEADER_BYTES);
  const little = isLittleEndian(fixed);
  const fieldBytes = view.getUint32(FIXED_HEADER_BYTES - 4, little);
  return {
    headerBytes: alignUp(FIXED_HEADER_BYTES + fieldBytes, ALIGNMENT),
    bodyBytes: view.getUint32(4, little),
  };
}

/** Reads strings and numbers with their alignment. @throws RangeError beyond the end */
class Reader {
  at = 0;
  readonly #view: DataView;

  constructor(private readonly bytes: Uint8Array, private readonly little: boolean) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  byte(): number {
    return this.#view.getUint8(this.at++);
  }

  u32(): number {
    this.at = alignUp(this.at, 4);
    const value = this.#view.getUint32(this.at, this.little);
    this.at += 4;
    return value;
  }

  string(): string {
    return this.#text(this.u32());
  }

  signature(): string {
    return this.#text(this.byte());
  }

  #text(length: number): string {
    if (this.at + length + 1 > this.bytes.length) throw new RangeError("A string reaches beyond its message");
    const text = utf8.decode(this.bytes.subarray(this.at, this.at + length));
    this.at += length + 1;
    return text;
  }
}

/** The header of a message. `header`: fixed part and fields. @throws Error if it is malformed */
export function decodeHeader(header: Uint8Array): BusHeader {
  const little = isLittleEndian(header);
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const reader = new Reader(header, little);
  reader.at = FIXED_HEADER_BYTES;
  const end = FIXED_HEADER_BYTES + view.getUint32(FIXED_HEADER_BYTES - 4, little);
  const fields: Record<string, string | number> = {};
  while (reader.at < end) {
    reader.at = alignUp(reader.at, ALIGNMENT);
    const code = reader.byte();
    const type = reader.signature();
    const value = type === "u"
      ? reader.u32()
      : type === "g"
      ? reader.signature()
      : type === "s" || type === "o"
      ? reader.string()
      : undefined;
    if (value === undefined) throw new Error(`Header field ${code} has the unknown type "${type}"`);
    const name = NAME_OF_CODE.get(code);
    if (name !== undefined && FIELDS[name].type === type) fields[name] = value;
  }
  return { type: header[1], flags: header[2], serial: view.getUint32(8, little), ...fields };
}

/** Where the complete type that begins at `at` ends. */
function typeEnd(signature: string, at: number): number {
  while (signature[at] === "a") at++;
  for (let depth = 0; at < signature.length; at++) {
    if (signature[at] === "(" || signature[at] === "{") depth++;
    if (signature[at] === ")" || signature[at] === "}") depth--;
    if (depth === 0) return at + 1;
  }
  return at;
}

/** A signature as error texts show it: several types as one structure. */
export function shownSignature(signature: string): string {
  return typeEnd(signature, 0) < signature.length ? `(${signature})` : signature;
}

/** The strings and numbers at the beginning of a body; `signature` has `s` and `u` only. @throws Error if it is malformed */
export function decodeBody(body: Uint8Array, signature: string, firstByte: number): (string | number)[] {
  const reader = new Reader(body, firstByte === LITTLE_ENDIAN);
  return Array.from(signature, (type) => {
    if (type === "s") return reader.string();
    if (type === "u") return reader.u32();
    throw new Error(`Values of type "${type}" are not read`);
  });
}
