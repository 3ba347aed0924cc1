/**
 * IP addresses as text and bytes, the one form that is written back, and netmasks as prefix lengths.
 *
 * L0, pure. Source: RFC 4291 §2.2 for what is read, RFC 5952 for what is written; IPv4 octets without leading zeros; IPv4
 * notation is written only for mapped addresses (`::ffff:a.b.c.d`).
 */

/** 16-bit groups of an IPv6 address. */
const GROUPS = 8;

/** Bytes of an IPv4 address, or undefined when `text` is none. */
export function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) {
    return undefined;
  }
  return Uint8Array.from(parts, Number);
}

/** Bytes of an IPv6 address, or undefined when `text` is none. */
export function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const groups: (readonly number[] | undefined)[] = halves.map((half, index) =>
    groupsOf(half, index === halves.length - 1)
  );
  const [head, tail] = groups;
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const given = head.length + (tail?.length ?? 0);
  // "::" stands for at least one group
  if (halves.length === 2 ? given >= GROUPS : given !== GROUPS) return undefined;
  const all = [...head, ...new Array<number>(GROUPS - given).fill(0), ...(tail ?? [])];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** The 16-bit groups of one side of `::`; an IPv4 tail counts as two. */
function groupsOf(half: string, isLast: boolean): number[] | undefined {
  if (half === "") return [];
  const groups: number[] = [];
  const parts = half.split(":");
  for (const [index, part] of parts.entries()) {
    const ipv4 = isLast && index === parts.length - 1 ? parseIpv4(part) : undefined;
    if (ipv4 !== undefined) groups.push(ipv4[0] << 8 | ipv4[1], ipv4[2] << 8 | ipv4[3]);
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** The canonical text of the IPv4 or IPv6 address `text`, or undefined when it is none. Never throws. */
export function canonicalIpAddress(text: string): string | undefined {
  if (parseIpv4(text) !== undefined) return text;
  const bytes = parseIpv6(text);
  return bytes === undefined ? undefined : formatIpv6(bytes);
}

function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: GROUPS }, (_, i) => bytes[2 * i] << 8 | bytes[2 * i + 1]);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${bytes.subarray(12).join(".")}`;
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

/** Number of leading one bits of a netmask, or undefined when ones follow a zero. */
export function prefixBits(mask: Uint8Array): number | undefined {
  const bits = Array.from(mask, (byte) => byte.toString(2).padStart(8, "0")).join("");
  const match = /^(1*)0*$/.exec(bits);
  return match?.[1].length;
}
