/**
 * TAP interfaces: attaching to one, and configuring it through the socket ioctls.
 *
 * L0; everything on main, `setOffload` and `enableQueue` also in the I/O Worker. Source: linux/if_tun.h, netdevice(7), linux/ipv6.h.
 */
import { ior, iow } from "../abi/ioctl.ts";
import { struct, StructBuffer } from "../abi/struct.ts";
import { close } from "./fd.ts";
import { addressOf, check, SYS, syscall, word } from "./syscall.ts";

const TUN = 0x54; // 'T'
const TUNSETIFF = iow("TUNSETIFF", TUN, 202, 4);
const TUNGETFEATURES = ior("TUNGETFEATURES", TUN, 207, 4);
const TUNSETOFFLOAD = iow("TUNSETOFFLOAD", TUN, 208, 4);
const TUNGETIFF = ior("TUNGETIFF", TUN, 210, 4);
const TUNSETVNETHDRSZ = iow("TUNSETVNETHDRSZ", TUN, 216, 4);
const TUNSETQUEUE = iow("TUNSETQUEUE", TUN, 217, 4);

const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const SIOCSIFHWADDR = 0x8924;
const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;

const IFF_UP = 1;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_ATTACH_QUEUE = 0x0200;
const IFF_DETACH_QUEUE = 0x0400;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM_CLOEXEC = 2n | 0o2000000n;
const MAC_BYTES = 6;

/** struct ifreq: a name and a union. */
export const IfReq = struct("ifreq", { ifr_name: { bytes: 16 }, rest: { bytes: 24, align: 8 } }, {
  size: 40,
  source: "net/if.h",
});
/** struct in6_ifreq. */
export const In6IfReq = struct("in6_ifreq", {
  ifr6_addr: { bytes: 16, align: 4 },
  ifr6_prefixlen: "u32",
  ifr6_ifindex: "u32",
}, { size: 24, source: "linux/ipv6.h" });

/** Longest interface name, without its NUL. */
const NAME_MAX = 15;

function ioctl(fd: number, code: number, name: string, argument: Uint8Array, subject: string): void {
  check(syscall(SYS.ioctl, word(fd), BigInt(code), addressOf(argument)), name, subject);
}

/** An ifreq for interface `name`, its union zeroed. @throws RangeError when the name is too long or empty bytes are in it */
function request(name: string): { bytes: Uint8Array<ArrayBuffer>; union: DataView<ArrayBuffer> } {
  const encoded = new TextEncoder().encode(name);
  if (encoded.byteLength > NAME_MAX) {
    throw new RangeError(`Interface name too long (max length is ${NAME_MAX}): ${name}`);
  }
  if (encoded.includes(0)) {
    throw new RangeError(`Interface name contains interior NUL byte: ${JSON.stringify(name)}`);
  }
  const buffer = new StructBuffer(IfReq);
  buffer.field("ifr_name").set(encoded);
  return { bytes: buffer.bytes, union: new DataView(buffer.bytes.buffer, IfReq.offsets.rest) };
}

function nameIn(bytes: Uint8Array): string {
  const name = bytes.subarray(0, IfReq.offsets.rest);
  const end = name.indexOf(0);
  return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
}

/** Runs an ioctl of a socket made for it. @throws OsError */
function onSocket(family: number, code: number, call: string, argument: Uint8Array, subject: string): void {
  const fd = check(syscall(SYS.socket, BigInt(family), SOCK_DGRAM_CLOEXEC, 0n), "socket");
  try {
    ioctl(fd, code, call, argument, subject);
  } finally {
    close(fd);
  }
}

/** True if the kernel's tun driver has multi-queue. @throws OsError */
export function hasMultiQueue(fd: number): boolean {
  const features = new Uint32Array(1);
  ioctl(fd, TUNGETFEATURES, "TUNGETFEATURES", new Uint8Array(features.buffer), `fd ${fd}`);
  return (features[0] & IFF_MULTI_QUEUE) !== 0;
}

const flagsFor = (multiQueue: boolean) =>
  IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multiQueue ? IFF_MULTI_QUEUE : 0);

/**
 * Makes an open /dev/net/tun a queue of interface `name`, created if missing; `%d` in it becomes the first free number.
 * Returns the interface's name. @throws OsError, RangeError for an impossible name
 */
export function attachTap(fd: number, name: string, multiQueue: boolean): string {
  const { bytes, union } = request(name);
  union.setUint16(0, flagsFor(multiQueue), true);
  ioctl(fd, TUNSETIFF, "TUNSETIFF", bytes, name);
  return nameIn(bytes);
}

/** Name of the interface a tap or macvtap descriptor belongs to. @throws OsError */
export function interfaceOf(fd: number): string {
  const { bytes } = request("");
  ioctl(fd, TUNGETIFF, "TUNGETIFF", bytes, `fd ${fd}`);
  return nameIn(bytes);
}

/** Sets our flags on a descriptor made by somebody else; an interface that refuses because it has them is fine. @throws OsError */
export function adoptTap(fd: number, name: string, multiQueue: boolean): void {
  const { bytes, union } = request(name);
  union.setUint16(0, flagsFor(multiQueue), true);
  const result = syscall(SYS.ioctl, word(fd), BigInt(TUNSETIFF), addressOf(bytes));
  if (result !== -EEXIST) check(result, "TUNSETIFF", name);
}
const EEXIST = 17n;

/** Sets the length of the header in front of every packet. @throws OsError */
export function setHeaderBytes(fd: number, lengthBytes: number): void {
  ioctl(
    fd,
    TUNSETVNETHDRSZ,
    "TUNSETVNETHDRSZ",
    new Uint8Array(new Uint32Array([lengthBytes]).buffer),
    `fd ${fd}`,
  );
}

/** Tells the interface what the reader of its packets can do (`TUN_F_*`); 0 or `-errno`. */
export function setOffload(fd: number, flags: number): number {
  return Number(syscall(SYS.ioctl, word(fd), BigInt(TUNSETOFFLOAD), BigInt(flags)));
}

/** Makes the kernel steer packets to this queue of a multi-queue interface, or no longer; 0 or `-errno`. */
export function enableQueue(fd: number, on: boolean): number {
  const { bytes, union } = request("");
  union.setUint16(0, on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE, true);
  return Number(syscall(SYS.ioctl, word(fd), BigInt(TUNSETQUEUE), addressOf(bytes)));
}

/** MTU of an interface. @throws OsError */
export function interfaceMtu(name: string): number {
  const { bytes, union } = request(name);
  onSocket(AF_UNIX, SIOCGIFMTU, "SIOCGIFMTU", bytes, name);
  return union.getInt32(0, true);
}

/** Sets the MTU. @throws OsError */
export function setInterfaceMtu(name: string, mtu: number): void {
  const { bytes, union } = request(name);
  union.setInt32(0, mtu, true);
  onSocket(AF_UNIX, SIOCSIFMTU, "SIOCSIFMTU", bytes, name);
}

/** Brings an interface up if it is down. @throws OsError */
export function bringUp(name: string): void {
  const { bytes, union } = request(name);
  onSocket(AF_UNIX, SIOCGIFFLAGS, "SIOCGIFFLAGS", bytes, name);
  const flags = union.getUint16(0, true);
  if ((flags & IFF_UP) !== 0) return;
  union.setUint16(0, flags | IFF_UP, true);
  onSocket(AF_UNIX, SIOCSIFFLAGS, "SIOCSIFFLAGS", bytes, name);
}

/** Gives the host side a MAC address, unless it has it already (then no privilege is needed). @throws OsError */
export function setInterfaceMac(name: string, mac: Uint8Array): void {
  const { bytes, union } = request(name);
  onSocket(AF_UNIX, SIOCGIFHWADDR, "SIOCGIFHWADDR", bytes, name);
  const address = new Uint8Array(union.buffer, union.byteOffset + 2, MAC_BYTES); // behind sa_family
  if (address.every((byte, index) => byte === mac[index])) return;
  address.set(mac);
  onSocket(AF_UNIX, SIOCSIFHWADDR, "SIOCSIFHWADDR", bytes, name);
}

/** Gives the host side an IPv4 address, 4 bytes, and optionally a netmask. @throws OsError */
export function setInterfaceIpv4(name: string, address: Uint8Array, mask?: Uint8Array): void {
  const { bytes, union } = request(name);
  // struct sockaddr_in: family, port, address in network order.
  const put = (value: Uint8Array) => {
    union.setUint16(0, AF_INET, true);
    new Uint8Array(union.buffer, union.byteOffset + 4, 4).set(value);
  };
  put(address);
  onSocket(AF_INET, SIOCSIFADDR, "SIOCSIFADDR", bytes, name);
  if (mask === undefined) return;
  put(mask);
  onSocket(AF_INET, SIOCSIFNETMASK, "SIOCSIFNETMASK", bytes, name);
}

/** Gives the host side an IPv6 address, 16 bytes, with a prefix length. @throws OsError */
export function setInterfaceIpv6(name: string, address: Uint8Array, prefixBits: number): void {
  const { bytes, union } = request(name);
  onSocket(AF_INET6, SIOCGIFINDEX, "SIOCGIFINDEX", bytes, name);
  const added = new StructBuffer(In6IfReq)
    .set("ifr6_prefixlen", prefixBits)
    .set("ifr6_ifindex", union.getUint32(0, true));
  added.field("ifr6_addr").set(address);
  onSocket(AF_INET6, SIOCSIFADDR, "SIOCSIFADDR", added.bytes, name);
}
