/**
 * Ethernet addresses as text and bytes.
 *
 * L0, pure.
 */

/** Bytes of an address. */
export const MAC_BYTES = 6;
/** Six two-digit groups with `:`. */
export const MAC_ADDRESS = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

/** The six bytes of `2e:00:00:00:00:01`, or undefined when `text` is not six two-digit groups with `:`. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!MAC_ADDRESS.test(text)) return undefined;
  return Uint8Array.from(text.split(":"), (group) => parseInt(group, 16));
}

/** Lower-case text of six bytes. */
export function formatMac(mac: Uint8Array): string {
  return Array.from(mac.subarray(0, MAC_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** First byte of generated addresses: locally administered, unicast. */
const GENERATED_PREFIX = 0x2e;

/** A random address for a device that was given none. */
export function randomMac(): Uint8Array {
  const mac = crypto.getRandomValues(new Uint8Array(MAC_BYTES));
  mac[0] = GENERATED_PREFIX;
  return mac;
}
