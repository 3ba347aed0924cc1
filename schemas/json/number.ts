/**
 * JSON numbers: exact 64-bit integers, and doubles rounded the way the original rounds them.
 *
 * L0, main isolate. Source: spec/observed.md "JSON" (`-0`, 2^64, 2^64−1).
 */

/** A number as read: an exact integer of 64 bits, or a double. */
export type JsonNumber =
  | { readonly kind: "unsigned" | "signed"; readonly value: bigint }
  | { readonly kind: "float"; readonly value: number };

/** Outcome of assembling a double that does not fit. */
export const OUT_OF_RANGE = Symbol("number out of range");

const MAX_DECIMAL_EXPONENT = 308;

/**
 * significand × 10^exponent by one multiplication or division per power, without correct rounding: the digits
 * appear in error texts, so they have to be wrong in the same way.
 */
export function assembleFloat(
  negative: boolean,
  significand: bigint,
  exponent: number,
): number | typeof OUT_OF_RANGE {
  let value = Number(significand);
  let left = exponent;
  while (Math.abs(left) > MAX_DECIMAL_EXPONENT) {
    if (value === 0) return negative ? -0 : 0;
    if (left > 0) return OUT_OF_RANGE;
    value /= 1e308;
    left += MAX_DECIMAL_EXPONENT;
  }
  const power = Number(`1e${Math.abs(left)}`);
  if (left >= 0) {
    value *= power;
    if (!Number.isFinite(value)) return OUT_OF_RANGE;
  } else {
    value /= power;
  }
  return negative ? -value : value;
}

/** An integer without fraction or exponent: signed zero and values below −2^63 are doubles. */
export function assembleInteger(negative: boolean, significand: bigint): JsonNumber {
  if (!negative) return { kind: "unsigned", value: significand };
  if (significand === 0n || significand > 1n << 63n) return { kind: "float", value: -Number(significand) };
  return { kind: "signed", value: -significand };
}
