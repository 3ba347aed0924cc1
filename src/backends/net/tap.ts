/**
 * Opens the host side of a network device: an interface of its own, a named one, or descriptors somebody hands over.
 *
 * L4, main isolate. Error texts are the original's with the interface named. Source: spec/machine-model.md §8 "net",
 * kernel Documentation/networking/tuntap.rst.
 */
import { OsError } from "@ffi/abi/errno.ts";
import { close, duplicate, O, open, setNonBlocking } from "@ffi/libc/fd.ts";
import {
  adoptTap,
  attachTap,
  bringUp,
  hasMultiQueue,
  interfaceMtu,
  interfaceOf,
  setHeaderBytes,
  setInterfaceIpv4,
  setInterfaceIpv6,
  setInterfaceMac,
  setInterfaceMtu,
} from "@ffi/libc/tap.ts";
import type { NetConfig } from "@schemas/api/net.ts";
import { parseIpv4, parseIpv6, prefixBits } from "@vmm/base/ip_address.ts";
import { parseMac } from "@vmm/base/mac_address.ts";
import { type ErrorCode, messagesOf, VmmError } from "@vmm/errors/vmm_error.ts";

/** The fields of a net configuration that concern the host side. */
export type TapRequest = Pick<NetConfig, "tap" | "ip" | "mask" | "host_mac" | "mtu" | "num_queues" | "fds">;

/** Bytes of the virtio-net header in front of each packet (struct virtio_net_hdr_v1). */
export const VNET_HEADER_BYTES = 12;
const TUN_DEVICE = "/dev/net/tun";
/** Name pattern of the interfaces made for a VM. */
const OWN_INTERFACE = "vmtap%d";
const IFF_MULTI_QUEUE = 0x0100;

/** A host interface that cannot be used: own words outermost first, then the cause's. */
export class TapError extends VmmError {
  readonly code: ErrorCode;
  readonly status = 500;
  readonly messages: readonly string[];

  constructor(messages: readonly [string, ...string[]], cause?: unknown) {
    super(messages[0], cause === undefined ? undefined : { cause });
    this.messages = messages;
    this.code = cause instanceof OsError ? "HOST_CALL_FAILED" : "OPERATION_REFUSED";
  }

  override chain(): string[] {
    return [...this.messages, ...messagesOf(this.cause)];
  }
}

/** An open host interface: one descriptor per queue pair. */
export interface OpenedTap {
  readonly interfaceName: string;
  readonly fds: readonly number[];
  /** Its MTU; undefined when the host does not tell. */
  readonly mtu: number | undefined;
  /** Texts for the log, level warn. */
  readonly warnings: readonly string[];
  /** Closes the descriptors; an interface of our own disappears with the last one. */
  close(): void;
}

/** Opens the interface. @throws TapError; nothing stays open or configured half-way open then */
export function openTap(request: TapRequest): OpenedTap {
  const fds: number[] = [];
  const warnings: string[] = [];
  try {
    const interfaceName = request.fds !== undefined && request.tap === undefined
      ? adopt(request.fds, request.mtu, fds)
      : openQueues(request, fds, warnings);
    let mtu: number | undefined;
    try {
      mtu = interfaceMtu(interfaceName);
    } catch (error) {
      warnings.push(`Failed to query tap MTU; not advertising VIRTIO_NET_F_MTU: ${(error as Error).message}`);
    }
    return { interfaceName, fds, mtu, warnings, close: () => fds.forEach(close) };
  } catch (error) {
    fds.forEach(close);
    throw error;
  }
}

/** Runs a step; a failure becomes the chain of opening a tap. */
function step<T>(words: string, interfaceName: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw new TapError([
      "Cannot create virtio-net device",
      "Failed to open taps",
      `${words} (interface=${interfaceName})`,
    ], error);
  }
}

function openQueues(request: TapRequest, fds: number[], warnings: string[]): string {
  const queuePairs = Math.floor(request.num_queues / 2);
  const name = request.tap === undefined || request.tap === "" ? OWN_INTERFACE : request.tap;
  const flags = existingFlags(name);
  checkMultiQueue(name, flags, queuePairs);
  const actual = openQueue(name, queuePairs, fds);
  if (flags !== undefined) {
    warnings.push(`Tap ${name} already exists. IP configuration will not be overwritten.`);
  } else if (request.ip !== undefined) {
    const { ip, mask } = request;
    step("Setting tap IP and/or netmask failed", actual, () => setAddress(actual, ip, mask));
  }
  const { host_mac: hostMac, mtu } = request;
  if (hostMac !== undefined) {
    step("Setting MAC address failed", actual, () => {
      const bytes = parseMac(hostMac);
      if (bytes === undefined) throw new RangeError(`Invalid MAC address: ${hostMac}`);
      setInterfaceMac(actual, bytes);
    });
  }
  if (mtu !== undefined) step("Setting MTU failed", actual, () => setInterfaceMtu(actual, mtu));
  step("Enabling tap interface failed", actual, () => bringUp(actual));
  for (let queue = 1; queue < queuePairs; queue++) openQueue(actual, queuePairs, fds);
  return actual;
}

/** Opens one queue of `name`; returns the interface's name. */
function openQueue(name: string, queuePairs: number, fds: number[]): string {
  const multiQueue = queuePairs > 1;
  const actual = step("Open tap device failed", name, () => {
    const fd = within("Couldn't open /dev/net/tun", () => open(TUN_DEVICE, O.RDWR | O.NONBLOCK));
    fds.push(fd);
    if (multiQueue && !within("Unable to retrieve features", () => hasMultiQueue(fd))) {
      throw new Error("Missing multiqueue support in the kernel");
    }
    return within("Unable to configure tap interface", () => attachTap(fd, name, multiQueue));
  });
  const fd = fds[fds.length - 1];
  step("Setting vnet header size failed", actual, () => setHeaderBytes(fd, VNET_HEADER_BYTES));
  return actual;
}

/** Puts words above an errno; an impossible name speaks for itself. */
function within<T>(words: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw error instanceof OsError ? new Error(words, { cause: error }) : error;
  }
}

/** Takes descriptors made by somebody else: duplicates, so that they outlive a reboot of the VM. */
function adopt(given: readonly number[], mtu: number | undefined, fds: number[]): string {
  const multiQueue = given.length > 1;
  let interfaceName = "";
  for (const fd of given) {
    try {
      fds.push(duplicate(fd));
    } catch (error) {
      throw new TapError([
        "Cannot create virtio-net device",
        `Error calling dup() on tap fd (fd=${fd})`,
      ], error);
    }
    const own = fds[fds.length - 1];
    try {
      // A macvtap opened by a shell blocks.
      setNonBlocking(own, true);
      interfaceName = interfaceOf(own);
      adoptTap(own, interfaceName, multiQueue);
      setHeaderBytes(own, VNET_HEADER_BYTES);
    } catch (error) {
      const where = interfaceName === "" ? `fd=${fd}` : `fd=${fd} interface=${interfaceName}`;
      const words = error instanceof OsError ? [`Ioctl failed (${error.call})`] : [];
      throw new TapError(
        ["Cannot create virtio-net device", `Using existing tap (${where})`, ...words],
        error,
      );
    }
  }
  if (mtu !== undefined) {
    try {
      setInterfaceMtu(interfaceName, mtu);
    } catch (error) {
      throw new TapError(
        ["Cannot create virtio-net device", `Using existing tap (interface=${interfaceName})`],
        error,
      );
    }
  }
  return interfaceName;
}

const sysfs = (name: string) => `/sys/class/net/${name}`;

/** Nothing but a plain name may become part of a path. */
const isPlainName = (name: string) => name !== "" && !/[/\0%]/.test(name) && name !== "." && name !== "..";

function exists(name: string): boolean {
  if (!isPlainName(name)) return false;
  try {
    Deno.statSync(sysfs(name));
    return true;
  } catch {
    return false;
  }
}

/** `tun_flags` of an interface that exists; undefined if it does not, 0 if it is no tap. @throws TapError */
function existingFlags(name: string): number | undefined {
  if (!exists(name)) return undefined;
  let text: string;
  try {
    text = Deno.readTextFileSync(`${sysfs(name)}/tun_flags`).trim();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    return step("Failed to read the TAP flags from sysfs", name, () => {
      throw error;
    });
  }
  const flags = Number(text.startsWith("0x") ? text : `0x${text}`);
  if (!Number.isInteger(flags)) {
    return step("Failed to convert an hexadecimal string into an integer", name, () => {
      throw new Error(`"${text}" is not hexadecimal`);
    });
  }
  return flags;
}

/** An existing tap keeps the mode it was made with, and it must be ours. @throws TapError */
function checkMultiQueue(name: string, flags: number | undefined, queuePairs: number): void {
  if (flags === undefined || flags === 0) return;
  const has = (flags & IFF_MULTI_QUEUE) !== 0;
  const wants = queuePairs > 1;
  if (has === wants) return;
  const side = has ? "device" : "TAP";
  throw new TapError([
    "Cannot create virtio-net device",
    "Failed to open taps",
    `Error related to the multiqueue support (no support ${side} side) (interface=${name})`,
  ]);
}

function setAddress(name: string, ip: string, mask: string | undefined): void {
  const ipv4 = parseIpv4(ip);
  if (ipv4 !== undefined) {
    const bytes = mask === undefined ? undefined : parseIpv4(mask);
    if (mask !== undefined && bytes === undefined) throw new RangeError("Invalid netmask");
    return setInterfaceIpv4(name, ipv4, bytes);
  }
  const ipv6 = parseIpv6(ip);
  if (ipv6 === undefined) throw new RangeError(`Invalid IP address: ${ip}`);
  const bytes = mask === undefined ? undefined : parseIpv6(mask);
  const bits = mask === undefined ? 0 : bytes && prefixBits(bytes);
  if (bits === undefined) throw new RangeError("Invalid netmask");
  setInterfaceIpv6(name, ipv6, bits);
}
