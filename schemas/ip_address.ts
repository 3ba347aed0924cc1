/**
 * IPv4 and IPv6 addresses as text: checked, and brought into the one form that is written back.
 *
 * L0, pure. Source: RFC 4291 §2.2 for what is read, RFC 5952 for what is written; IPv4 octets without leading
 * zeros; IPv4 notation is written only for mapped addresses (`::ffff:a.b.c.d`).
 */

const GROUPS = 8;

function parseIpv4(text: string): number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const octets: number[] = [];
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    octets.push(Number(part));
  }
  return octets;
}

/** 16-bit groups of one side of `::`; `mayEndInIpv4` allows an IPv4 address for its last two. */
function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (mayEndInIpv4 && index === parts.length - 1 && part.includes(".")) {
      const octets = parseIpv4(part);
      if (octets === undefined) return undefined;
      groups.push(octets[0] << 8 | octets[1], octets[2] << 8 | octets[3]);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}

function parseIpv6(text: string): number[] | undefined {
  const sides = text.split("::");
  if (sides.length > 2) return undefined;
  if (sides.length === 1) {
    const groups = parseGroups(text, true);
    return groups?.length === GROUPS ? groups : undefined;
  }
  const head = parseGroups(sides[0], false);
  const tail = parseGroups(sides[1], true);
  if (head === undefined || tail === undefined || head.length + tail.length >= GROUPS) return undefined;
  return [...head, ...Array(GROUPS - head.length - tail.length).fill(0), ...tail];
}

function formatIpv6(groups: readonly number[]): string {
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    const [high, low] = groups.slice(6);
    return `::ffff:${high >> 8}.${high & 0xff}.${low >> 8}.${low & 0xff}`;
  }
  let bestStart = 0;
  let bestLength = 1;
  for (let start = 0; start < GROUPS; start++) {
    let length = 0;
    while (start + length < GROUPS && groups[start + length] === 0) length++;
    if (length > bestLength) [bestStart, bestLength] = [start, length];
  }
  const text = (part: readonly number[]) => part.map((group) => group.toString(16)).join(":");
  if (bestLength === 1) return text(groups);
  return `${text(groups.slice(0, bestStart))}::${text(groups.slice(bestStart + bestLength))}`;
}

/** The canonical text of the IPv4 or IPv6 address `text`, or undefined when it is none. Never throws. */
export function canonicalIpAddress(text: string): string | undefined {
  if (parseIpv4(text) !== undefined) return text;
  const groups = parseIpv6(text);
  return groups === undefined ? undefined : formatIpv6(groups);
}
