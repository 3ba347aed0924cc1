/**
 * UNIX stream sockets, and messages that carry descriptors.
 *
 * L0, any isolate. Calls on data paths return `-errno` instead of throwing.
 * Source: unix(7), accept4(2), recvmsg(2), cmsg(3).
 */
import { Errno, errno, OsError } from "../abi/errno.ts";
import { struct, StructBuffer } from "../abi/struct.ts";
import { close } from "./fd.ts";
import { addressOf, check, SYS, syscall, word } from "./syscall.ts";

const SUN_PATH_BYTES = 108;

/** struct sockaddr_un. */
export const SockaddrUn = struct("sockaddr_un", { sun_family: "u16", sun_path: { bytes: SUN_PATH_BYTES } }, {
  size: 110,
  source: "linux/un.h",
});

/** struct msghdr, as user space declares it. */
export const Msghdr = struct("msghdr", {
  msg_name: "u64",
  msg_namelen: "u32",
  msg_iov: "u64",
  msg_iovlen: "u64",
  msg_control: "u64",
  msg_controllen: "u64",
  msg_flags: "u32",
}, { size: 56, source: "sys/socket.h" });

/** struct cmsghdr; its data follows at once. */
export const Cmsghdr = struct("cmsghdr", { cmsg_len: "u64", cmsg_level: "u32", cmsg_type: "u32" }, {
  size: 16,
  source: "sys/socket.h",
});

/** struct iovec. */
export const Iovec = struct("iovec", { iov_base: "u64", iov_len: "u64" }, { size: 16, source: "sys/uio.h" });

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_ACCEPTCONN = 30;
const SHUT_WR = 1n;
const SHUT_RDWR = 2n;
const DESCRIPTOR_BYTES = 4;
/** Most descriptors one message can carry (SCM_MAX_FD). */
export const MAX_DESCRIPTORS_PER_MESSAGE = 253;

/** Flags of sendmsg(2) and recvmsg(2). */
export const MSG = {
  PEEK: 2,
  CTRUNC: 8,
  TRUNC: 0x20,
  DONTWAIT: 0x40,
  NOSIGNAL: 0x4000,
  CMSG_CLOEXEC: 0x4000_0000,
} as const;

interface SocketCalls {
  send(fd: number, bytes: BufferSource, lengthBytes: number, flags: number): number;
  recvmsg(fd: number, header: BufferSource, flags: number): number;
}

let socketCalls: SocketCalls | undefined;

/** The two calls of data paths, typed so that V8's fast calls apply; opened by who needs them first. */
function calls(): SocketCalls {
  // SAFETY: glibc's own prototypes; the kernel uses the buffers during the call only, within the lengths given.
  return socketCalls ??= Deno.dlopen("libc.so.6", {
    send: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
    recvmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  }).symbols as SocketCalls;
}

const alignUp = (length: number): number => Math.ceil(length / 8) * 8;

interface UnixAddress {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly lengthBytes: number;
}

function unixAddress(path: string): UnixAddress {
  const text = new TextEncoder().encode(path);
  if (text.includes(0)) throw new TypeError("A socket path cannot contain a NUL character");
  // One byte stays for the terminating NUL.
  if (text.length >= SUN_PATH_BYTES) throw new OsError(Errno.ENAMETOOLONG, "bind", path);
  const address = new StructBuffer(SockaddrUn).set("sun_family", AF_UNIX);
  address.field("sun_path").set(text);
  // An empty path is the kernel's "autobind": the address then is the family alone.
  const lengthBytes = SockaddrUn.offsets.sun_path + (text.length === 0 ? 0 : text.length + 1);
  return { bytes: address.bytes, lengthBytes };
}

function streamSocket(): number {
  return check(
    syscall(SYS.socket, BigInt(AF_UNIX), BigInt(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), 0n),
    "socket",
  );
}

function bind(fd: number, { bytes, lengthBytes }: UnixAddress, path: string): void {
  check(syscall(SYS.bind, word(fd), addressOf(bytes), BigInt(lengthBytes)), "bind", path);
}

/** Binds and listens; the descriptor is non-blocking. @throws OsError, EADDRINUSE when the file exists */
export function listenUnix(path: string, backlog = 128): number {
  const address = unixAddress(path);
  const fd = streamSocket();
  try {
    bind(fd, address, path);
    check(syscall(SYS.listen, word(fd), BigInt(backlog)), "listen", path);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/**
 * Connects; the descriptor is non-blocking.
 *
 * @param isNamed under a name the kernel makes up (unix(7), "autobind"), by which the other end can tell who it is
 * @throws OsError, ECONNREFUSED when nobody listens, EAGAIN when the backlog is full
 */
export function connectUnix(path: string, isNamed = false): number {
  const address = unixAddress(path);
  const fd = streamSocket();
  try {
    if (isNamed) bind(fd, unixAddress(""), "");
    check(
      syscall(SYS.connect, word(fd), addressOf(address.bytes), BigInt(address.lengthBytes)),
      "connect",
      path,
    );
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

function nameOf(call: bigint, fd: number): string {
  const address = new StructBuffer(SockaddrUn);
  const length = Uint32Array.of(SockaddrUn.size);
  const result = syscall(call, word(fd), addressOf(address.bytes), addressOf(new Uint8Array(length.buffer)));
  if (result < 0n) return "";
  const name = address.bytes.subarray(SockaddrUn.offsets.sun_path, Math.min(length[0], SockaddrUn.size));
  return new TextDecoder().decode(name).replace(/(?<=.)\0$/s, "");
}

/** Name a socket is bound to: a path, or NUL and more for one without a file. Empty when there is none. */
export function localName(fd: number): string {
  return nameOf(SYS.getsockname, fd);
}

/** Name of the socket at the other end, as of `localName`. */
export function peerName(fd: number): string {
  return nameOf(SYS.getpeername, fd);
}

/** Whether a socket takes connections. */
export function isListening(fd: number): boolean {
  const value = new Int32Array(1);
  const length = Uint32Array.of(value.byteLength);
  const result = syscall(
    SYS.getsockopt,
    word(fd),
    BigInt(SOL_SOCKET),
    BigInt(SO_ACCEPTCONN),
    addressOf(new Uint8Array(value.buffer)),
    addressOf(new Uint8Array(length.buffer)),
  );
  return result === 0n && value[0] !== 0;
}

/** A waiting connection, non-blocking, or `-errno` (EAGAIN: none). */
export function accept(listenFd: number): number {
  return Number(syscall(SYS.accept4, word(listenFd), 0n, 0n, BigInt(SOCK_NONBLOCK | SOCK_CLOEXEC)));
}

/** Two connected stream sockets, non-blocking. @throws OsError */
export function socketPair(): [number, number] {
  const pair = new Int32Array(2);
  const type = BigInt(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK);
  check(
    syscall(SYS.socketpair, BigInt(AF_UNIX), type, 0n, addressOf(new Uint8Array(pair.buffer))),
    "socketpair",
  );
  return [pair[0], pair[1]];
}

/** Ends both directions, so that the peer sees the end even if another descriptor of the socket lives on. */
export function shutdownSocket(fd: number): void {
  syscall(SYS.shutdown, word(fd), SHUT_RDWR);
}

/** The peer reads an end behind what was sent; receiving goes on. */
export function endSending(fd: number): void {
  syscall(SYS.shutdown, word(fd), SHUT_WR);
}

/** Takes waiting bytes into `target`; returns their number, 0 at the end of the stream, or `-errno`. @param flags of `MSG` */
export function receiveBytes(fd: number, target: Uint8Array<ArrayBuffer>, flags = 0): number {
  const result = syscall(
    SYS.recvfrom,
    word(fd),
    addressOf(target),
    BigInt(target.byteLength),
    BigInt(flags | MSG.DONTWAIT),
    0n,
    0n,
  );
  return Number(result);
}

/**
 * A reusable message: data bytes and room for descriptors. One per reader; not shared by isolates.
 *
 * The kernel gets raw addresses of the parts, so they live as long as the object.
 */
export class SocketMessage {
  /** Bytes of the last `receive`; the count is its result. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Descriptors of the last `receive`, close-on-exec. The caller owns them. */
  readonly descriptors: number[] = [];
  /** Whether the last message carried more descriptors than there was room for (the kernel closed the rest). */
  descriptorsLost = false;

  readonly #header = new StructBuffer(Msghdr);
  readonly #headerAddress = addressOf(this.#header.bytes);
  readonly #iov = new StructBuffer(Iovec);
  /** For `receive` only: everything but three lengths stays as it was set once. */
  readonly #receiveHeader = new StructBuffer(Msghdr);
  readonly #receiveIov = new StructBuffer(Iovec);
  readonly #control: DataView<ArrayBuffer>;
  readonly #controlBytes: Uint8Array<ArrayBuffer>;

  /** @param dataBytes most bytes taken per `receive` @param maxDescriptors most descriptors per message, up to 253 */
  constructor(dataBytes: number, maxDescriptors = MAX_DESCRIPTORS_PER_MESSAGE) {
    this.data = new Uint8Array(dataBytes);
    this.#controlBytes = new Uint8Array(alignUp(Cmsghdr.size + DESCRIPTOR_BYTES * maxDescriptors));
    this.#control = new DataView(this.#controlBytes.buffer);
    this.#header.set("msg_iov", addressOf(this.#iov.bytes)).set("msg_iovlen", 1);
    this.#header.set("msg_control", addressOf(this.#controlBytes));
    this.#receiveIov.set("iov_base", addressOf(this.data));
    this.#receiveHeader.set("msg_iov", addressOf(this.#receiveIov.bytes)).set("msg_iovlen", 1);
    this.#receiveHeader.set("msg_control", addressOf(this.#controlBytes));
  }

  /** Receives without waiting, at most `limitBytes`; returns the byte count, 0 at the end of the stream, or `-errno`. */
  receive(fd: number, limitBytes = this.data.byteLength): number {
    const { view, bytes } = this.#receiveHeader;
    const lengthBytes = Math.min(limitBytes, this.data.byteLength);
    this.#receiveIov.view.setUint32(Iovec.offsets.iov_len, lengthBytes, true);
    view.setUint32(Msghdr.offsets.msg_controllen, this.#controlBytes.byteLength, true);
    view.setUint32(Msghdr.offsets.msg_flags, 0, true);
    const count = calls().recvmsg(fd, bytes, MSG.CMSG_CLOEXEC | MSG.DONTWAIT);
    const result = count < 0 ? -errno() : count;
    this.descriptors.length = 0;
    this.descriptorsLost = false;
    if (result >= 0) this.#collectDescriptors();
    return result;
  }

  #collectDescriptors(): void {
    const header = this.#receiveHeader.view;
    this.descriptorsLost = (header.getUint32(Msghdr.offsets.msg_flags, true) & MSG.CTRUNC) !== 0;
    const end = header.getUint32(Msghdr.offsets.msg_controllen, true);
    const { cmsg_len, cmsg_level, cmsg_type } = Cmsghdr.offsets;
    for (let at = 0; at + Cmsghdr.size <= end;) {
      const length = this.#control.getUint32(at + cmsg_len, true);
      if (length < Cmsghdr.size) return;
      const isRights = this.#control.getUint32(at + cmsg_level, true) === SOL_SOCKET &&
        this.#control.getUint32(at + cmsg_type, true) === SCM_RIGHTS;
      const last = Math.min(at + length, end) - DESCRIPTOR_BYTES;
      for (let item = at + Cmsghdr.size; isRights && item <= last; item += DESCRIPTOR_BYTES) {
        this.descriptors.push(this.#control.getInt32(item, true));
      }
      at += alignUp(length);
    }
  }

  /** Sends `bytes` with `descriptors` without waiting; returns the byte count or `-errno`. The descriptors stay open here. */
  send(fd: number, bytes: Uint8Array<ArrayBuffer>, descriptors: readonly number[] = []): number {
    if (descriptors.length === 0) {
      const count = calls().send(fd, bytes, bytes.byteLength, MSG.NOSIGNAL | MSG.DONTWAIT);
      return count < 0 ? -errno() : count;
    }
    const controlLength = Cmsghdr.size + DESCRIPTOR_BYTES * descriptors.length;
    if (controlLength > this.#controlBytes.byteLength) return -Errno.EINVAL;
    this.#iov.set("iov_base", addressOf(bytes)).set("iov_len", bytes.byteLength);
    this.#header.set("msg_flags", 0);
    this.#header.set("msg_controllen", alignUp(controlLength));
    const { cmsg_len, cmsg_level, cmsg_type } = Cmsghdr.offsets;
    this.#control.setBigUint64(cmsg_len, BigInt(controlLength), true);
    this.#control.setUint32(cmsg_level, SOL_SOCKET, true);
    this.#control.setUint32(cmsg_type, SCM_RIGHTS, true);
    descriptors.forEach((item, i) => {
      this.#control.setInt32(Cmsghdr.size + DESCRIPTOR_BYTES * i, item, true);
    });
    return Number(
      syscall(SYS.sendmsg, word(fd), this.#headerAddress, BigInt(MSG.NOSIGNAL | MSG.DONTWAIT)),
    );
  }
}
