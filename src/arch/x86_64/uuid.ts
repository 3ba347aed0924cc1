/**
 * Parses a UUID in the spellings the original takes.
 *
 * L2, any isolate; pure. Source: RFC 9562 §4; error texts as the original reports them.
 */

const GROUP_LENGTHS = [8, 4, 4, 4, 12] as const;
const SIMPLE_LENGTH = 32;
const URN_PREFIX = "urn:uuid:";

/**
 * Reads `8-4-4-4-12`, the same in braces or behind `urn:uuid:`, or 32 digits without hyphens.
 *
 * @returns sixteen bytes in the order of the text, or what is wrong with it
 */
export function parseUuid(text: string): Uint8Array<ArrayBuffer> | string {
  let offset = 0;
  let body = text;
  if (text.startsWith(URN_PREFIX)) {
    offset = URN_PREFIX.length;
    body = text.slice(offset);
  } else if (text.startsWith("{") && text.endsWith("}")) {
    offset = 1;
    body = text.slice(1, -1);
  }
  const wrong = body.search(/[^0-9a-fA-F-]/);
  if (wrong >= 0) {
    return `invalid character: found \`${[...body.slice(wrong)][0]}\` at ${wrong + offset}`;
  }
  const groups = body.split("-");
  if (groups.length === 1 && offset === 0) {
    if (body.length !== SIMPLE_LENGTH) return `invalid length: found ${body.length}`;
  } else if (groups.length !== GROUP_LENGTHS.length) {
    return `invalid group count: expected ${GROUP_LENGTHS.length}, found ${groups.length}`;
  } else {
    const bad = groups.findIndex((group, i) => group.length !== GROUP_LENGTHS[i]);
    if (bad >= 0) {
      return `invalid group length in group ${bad}: expected ${GROUP_LENGTHS[bad]}, found ${
        groups[bad].length
      }`;
    }
  }
  const digits = groups.join("");
  return Uint8Array.from({ length: 16 }, (_, i) => parseInt(digits.slice(i * 2, i * 2 + 2), 16));
}
