/**
 * C structures as tables: field offsets computed as the C compiler does, the size asserted against the header's.
 *
 * L0, any isolate. Source of rules: System V ABI for x86-64 §3.1.2 (natural alignment, tail padding).
 * `scripts/abi_check.ts` compares every table with the kernel headers.
 */

/** A scalar of 1, 2, 4 or 8 bytes, or a byte array that only needs alignment 1. */
export type FieldType = "u8" | "u16" | "u32" | "u64" | { bytes: number; align?: number } | StructLayout;

const SCALAR_SIZE = { u8: 1, u16: 2, u32: 4, u64: 8 } as const;

/** Offset, size and alignment of one field in bytes. */
export interface FieldLayout {
  readonly offset: number;
  readonly size: number;
  readonly type: FieldType;
}

/** A laid-out structure. `offsets` gives the byte offset of each field by name. */
export interface StructLayout<F extends string = string> {
  readonly name: string;
  readonly size: number;
  readonly align: number;
  readonly source: string;
  readonly fields: Readonly<Record<F, FieldLayout>>;
  readonly offsets: Readonly<Record<F, number>>;
}

/** Every structure laid out so far, for the ABI check. */
export const ALL_STRUCTS: StructLayout[] = [];

function sizeAndAlign(type: FieldType): [number, number] {
  if (typeof type === "string") return [SCALAR_SIZE[type], SCALAR_SIZE[type]];
  if ("bytes" in type) return [type.bytes, type.align ?? 1];
  return [type.size, type.align];
}

/**
 * Lays out a C structure.
 *
 * @param name the C name without `struct`
 * @param fields name to type, in declaration order; a union is given as its largest member
 * @param options `size`: sizeof in C, asserted; `packed`: no padding; `source`: the header
 * @throws Error if the computed size differs from `options.size`
 */
export function struct<F extends string>(
  name: string,
  fields: Record<F, FieldType>,
  options: { size: number; source: string; packed?: boolean },
): StructLayout<F> {
  let offset = 0;
  let align = 1;
  const layouts = {} as Record<F, FieldLayout>;
  const offsets = {} as Record<F, number>;
  for (const key of Object.keys(fields) as F[]) {
    const [fieldSize, naturalAlign] = sizeAndAlign(fields[key]);
    const fieldAlign = options.packed ? 1 : naturalAlign;
    offset = Math.ceil(offset / fieldAlign) * fieldAlign;
    layouts[key] = { offset, size: fieldSize, type: fields[key] };
    offsets[key] = offset;
    offset += fieldSize;
    align = Math.max(align, fieldAlign);
  }
  const size = Math.ceil(offset / align) * align;
  if (size !== options.size) {
    throw new Error(`struct ${name}: computed ${size} bytes, header says ${options.size}`);
  }
  const layout: StructLayout<F> = { name, size, align, source: options.source, fields: layouts, offsets };
  ALL_STRUCTS.push(layout);
  return layout;
}

/** A zeroed structure with typed access by field name. Cold paths only: it allocates. */
export class StructBuffer<F extends string> {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;

  /** @param tailBytes room behind the structure for a flexible array member */
  constructor(readonly layout: StructLayout<F>, tailBytes = 0) {
    this.bytes = new Uint8Array(layout.size + tailBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Writes a scalar field. @throws TypeError on a byte-array field */
  set(field: F, value: number | bigint): this {
    const { offset, type } = this.layout.fields[field];
    switch (type) {
      case "u8":
        this.view.setUint8(offset, Number(value));
        break;
      case "u16":
        this.view.setUint16(offset, Number(value), true);
        break;
      case "u32":
        this.view.setUint32(offset, Number(value), true);
        break;
      case "u64":
        this.view.setBigUint64(offset, BigInt(value), true);
        break;
      default:
        throw new TypeError(`${this.layout.name}.${field} is not a scalar`);
    }
    return this;
  }

  /** Reads a scalar field; 64-bit ones as bigint through `getBig`. @throws TypeError on a byte-array or 64-bit field */
  get(field: F): number {
    const { offset, type } = this.layout.fields[field];
    if (type === "u8") return this.view.getUint8(offset);
    if (type === "u16") return this.view.getUint16(offset, true);
    if (type === "u32") return this.view.getUint32(offset, true);
    throw new TypeError(`${this.layout.name}.${field} is not a scalar of up to 32 bits`);
  }

  /** Reads a 64-bit field. */
  getBig(field: F): bigint {
    return this.view.getBigUint64(this.layout.fields[field].offset, true);
  }

  /** The bytes of one field, as a view. */
  field(field: F): Uint8Array<ArrayBuffer> {
    const { offset, size } = this.layout.fields[field];
    return this.bytes.subarray(offset, offset + size);
  }
}
