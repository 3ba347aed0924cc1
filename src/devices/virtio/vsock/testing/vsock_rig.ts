/**
 * A socket device between a mock driver and a host in memory.
 *
 * L4, tests only.
 */
import type { Activation } from "@vmm/virtio/device.ts";
import type { HostStream, StreamHost } from "@vmm/virtio/ports/streams.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { createVsockHandler } from "../handler.ts";
import { PacketHeader } from "../spec.ts";

const EAGAIN = 11;
const EPIPE = 32;
const EPOLLIN = 1;
const EPOLLOUT = 4;
const EPOLLHUP = 16;
const LISTEN_FD = 3;
export const GUEST_CID = 42;

/** A host program's end of a stream, kept in arrays. */
export class FakeStream implements HostStream {
  static next = 100;
  readonly fd = FakeStream.next++;
  /** Bytes on their way to the guest, and whether the program has ended sending, or left. */
  incoming: number[] = [];
  ended = false;
  left = false;
  /** What the program got, and whether it has read the end. */
  readonly got: number[] = [];
  sawEnd = false;
  closed = false;
  /** Calls with guest memory so far. */
  sends = 0;
  receives = 0;
  /** Bytes the program's socket still takes. */
  room = Infinity;

  /** Where the buffers for the guest and those of the guest lie. */
  constructor(private readonly rx: MockDriver, private readonly tx: MockDriver) {}

  type(text: string): void {
    this.incoming.push(...new TextEncoder().encode(text));
  }

  get text(): string {
    return new TextDecoder().decode(Uint8Array.from(this.got));
  }

  /** What a poll would say. */
  get events(): number {
    return (this.incoming.length > 0 || this.ended || this.left ? EPOLLIN : 0) |
      (this.room > 0 || this.left ? EPOLLOUT : 0) | (this.left ? EPOLLHUP : 0);
  }

  receive(iov: Uint8Array<ArrayBuffer>, count: number): number {
    this.receives++;
    if (this.incoming.length === 0) return this.ended || this.left ? 0 : -EAGAIN;
    let done = 0;
    for (const piece of pieces(this.rx, iov, count)) {
      const bytes = this.incoming.splice(0, piece.byteLength);
      piece.set(bytes);
      done += bytes.length;
    }
    return done;
  }

  receiveBytes(target: Uint8Array<ArrayBuffer>, peek: boolean): number {
    if (this.incoming.length === 0) return this.ended || this.left ? 0 : -EAGAIN;
    const bytes = this.incoming.slice(0, target.byteLength);
    target.set(bytes);
    if (!peek) this.incoming.splice(0, bytes.length);
    return bytes.length;
  }

  send(iov: Uint8Array<ArrayBuffer>, count: number): number {
    this.sends++;
    const all = pieces(this.tx, iov, count).flatMap((piece) => [...piece]);
    return this.sendBytes(Uint8Array.from(all));
  }

  sendBytes(bytes: Uint8Array<ArrayBuffer>): number {
    if (this.left) return -EPIPE;
    if (this.room === 0) return -EAGAIN;
    const taken = bytes.subarray(0, Math.min(this.room, bytes.byteLength));
    this.got.push(...taken);
    this.room -= taken.byteLength;
    return taken.byteLength;
  }

  endSending(): void {
    this.sawEnd = true;
  }

  close(): void {
    this.closed = true;
    this.sawEnd = true;
  }
}

function pieces(driver: MockDriver, iov: Uint8Array<ArrayBuffer>, count: number): Uint8Array[] {
  const words = new BigUint64Array(iov.buffer, 0, 2 * count);
  return Array.from({ length: count }, (_, i) => driver.at(Number(words[2 * i]), Number(words[2 * i + 1])));
}

/** A packet as the driver reads or writes it. */
export interface Packet {
  op: number;
  hostPort: number;
  guestPort: number;
  flags?: number;
  bufAlloc?: number;
  fwdCnt?: number;
  type?: number;
  dstCid?: number;
  /** `len` of the header, when it is not that of the data. */
  length?: number;
  data?: string;
}

/** See the module. */
export class VsockRig {
  readonly rx = new MockDriver({ size: 256, ramBytes: 0x40_0000 });
  readonly tx = new MockDriver({ size: 256, ramBytes: 0x40_0000 });
  readonly event = new MockDriver();
  readonly log: string[] = [];
  /** Services by host port: what a connection to them comes to. */
  readonly services = new Map<number, () => HostStream | number>();
  /** Connections that wait to be accepted. */
  readonly backlog: (HostStream | number)[] = [];
  readonly watches = new Map<number, { events: number; ready: (events: number) => void }>();
  readonly timers: { delayMs: number; fire: () => void }[] = [];
  readonly streams: FakeStream[] = [];
  readonly #offered = new Map<number, number>();

  readonly handler;

  constructor() {
    const host: StreamHost = {
      listenFd: LISTEN_FD,
      accept: () => this.backlog.shift() ?? -EAGAIN,
      connect: (port) => this.services.get(port)?.() ?? -2,
    };
    const config = new Uint8Array(8);
    config[0] = GUEST_CID;
    const activation = {
      id: "_vsock0",
      memory: this.rx.memory,
      queues: [this.rx.queue(), this.tx.queue(), this.event.queue()],
      config,
      env: {
        watch: (fd: number, events: number, ready: (events: number) => void) =>
          this.watches.set(fd, { events, ready }),
        rewatch: (fd: number, events: number) => this.watches.get(fd)!.events = events,
        unwatch: (fd: number) => this.watches.delete(fd),
        timer: (delayMs: number, fire: () => void) => {
          const timer = { delayMs, fire };
          this.timers.push(timer);
          return () => void this.timers.splice(this.timers.indexOf(timer), 1);
        },
        post: ({ text }: { text: string }) => this.log.push(text),
      },
      interruptQueue: () => {},
      fail: ({ fault }: { fault: string }) => this.log.push(`fail ${fault}`),
    } as unknown as Activation;
    this.handler = createVsockHandler(activation, { host });
  }

  /** A stream for a service, or for `backlog`. */
  stream(): FakeStream {
    const stream = new FakeStream(this.rx, this.tx);
    this.streams.push(stream);
    return stream;
  }

  /** Gives the device `count` buffers of `bytes` each, and tells it. */
  offer(count: number, bytes = 4096 + PacketHeader.size): void {
    for (let i = 0; i < count; i++) {
      const { head, addresses } = this.rx.submit([{ receive: bytes }]);
      this.#offered.set(head, addresses[0]);
    }
    this.handler.onKick(0);
  }

  /** Sends packets, and tells the device. */
  send(...packets: Packet[]): void {
    for (const packet of packets) this.tx.submit([{ send: encode(packet) }]);
    this.handler.onKick(1);
    this.pump();
  }

  /** Reports readiness until nobody wants to know, or `limit` times: more would be a device that spins. */
  pump(limit = 200): void {
    for (let round = 0; round < limit; round++) {
      const waiting = this.timers.findIndex(({ delayMs }) => delayMs === 0);
      if (waiting >= 0) this.timers.splice(waiting, 1)[0].fire();
      const listen = this.watches.get(LISTEN_FD);
      if (listen !== undefined && listen.events !== 0 && this.backlog.length > 0) listen.ready(EPOLLIN);
      let quiet = waiting < 0;
      for (const stream of this.streams) {
        const watch = this.watches.get(stream.fd);
        if (watch === undefined || watch.events === 0) continue;
        const events = stream.events & (watch.events | EPOLLHUP);
        if (events === 0) continue;
        quiet = false;
        watch.ready(events);
      }
      if (quiet) return;
    }
    this.log.push("spins");
  }

  /** Fires the timers of one delay. */
  fire(delayMs: number): void {
    for (const timer of this.timers.filter((one) => one.delayMs === delayMs)) {
      this.timers.splice(this.timers.indexOf(timer), 1);
      timer.fire();
    }
    this.pump();
  }

  /** Packets the driver has got. */
  received(): Required<
    Pick<Packet, "op" | "hostPort" | "guestPort" | "flags" | "bufAlloc" | "fwdCnt" | "data">
  >[] {
    const packets = [];
    for (let done = this.rx.complete(); done !== undefined; done = this.rx.complete()) {
      const at = this.#offered.get(done.head)!;
      const bytes = this.rx.at(at, Math.max(done.writtenBytes, PacketHeader.size));
      if (done.writtenBytes < PacketHeader.size) {
        packets.push({ op: -1, hostPort: 0, guestPort: 0, flags: 0, bufAlloc: 0, fwdCnt: 0, data: "" });
        continue;
      }
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      const length = view.getUint32(PacketHeader.len, true);
      packets.push({
        op: view.getUint16(PacketHeader.op, true),
        hostPort: view.getUint32(PacketHeader.src_port, true),
        guestPort: view.getUint32(PacketHeader.dst_port, true),
        flags: view.getUint32(PacketHeader.flags, true),
        bufAlloc: view.getUint32(PacketHeader.buf_alloc, true),
        fwdCnt: view.getUint32(PacketHeader.fwd_cnt, true),
        data: new TextDecoder().decode(bytes.slice(PacketHeader.size, PacketHeader.size + length)),
      });
    }
    return packets;
  }

  /** As `received`, only the operations. */
  operations(): number[] {
    return this.received().map(({ op }) => op);
  }
}

/** The bytes of a packet of the guest. */
export function encode(packet: Packet): Uint8Array {
  const data = new TextEncoder().encode(packet.data ?? "");
  const bytes = new Uint8Array(PacketHeader.size + data.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(PacketHeader.src_cid, GUEST_CID, true);
  view.setUint32(PacketHeader.dst_cid, packet.dstCid ?? 2, true);
  view.setUint32(PacketHeader.src_port, packet.guestPort, true);
  view.setUint32(PacketHeader.dst_port, packet.hostPort, true);
  view.setUint32(PacketHeader.len, packet.length ?? data.byteLength, true);
  view.setUint16(PacketHeader.type, packet.type ?? 1, true);
  view.setUint16(PacketHeader.op, packet.op, true);
  view.setUint32(PacketHeader.flags, packet.flags ?? 0, true);
  view.setUint32(PacketHeader.buf_alloc, packet.bufAlloc ?? 0x4_0000, true);
  view.setUint32(PacketHeader.fwd_cnt, packet.fwdCnt ?? 0, true);
  bytes.set(data, PacketHeader.size);
  return bytes;
}
