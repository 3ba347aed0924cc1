/**
 * The guest's side of a socket device, packet by packet, and programs of the host that talk to it.
 *
 * Test framework. Over a puppet guest: the test sees and makes every packet. Source: virtio 1.2 §5.10.
 *
 * @module
 */

import { eventually } from "./deadline.ts";
import type { Puppet } from "./puppet.ts";
import { DriverMemory, VirtioDriver } from "./virtio_driver.ts";

const VSOCK = 19;
const HOST_CID = 2;
const HEADER_BYTES = 44;
const RX = 0;
const TX = 1;
const EVENT = 2;
const RX_BUFFER_BYTES = HEADER_BYTES + 4096;
const QUEUE_SIZE = 32;
/** Buffers given back before the device is told: it has others. */
const ANNOUNCE_EVERY = 8;
const TYPE_STREAM = 1;

/** Operations of packets by name. */
export const OP = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;

/** Flags of SHUTDOWN: who sends it receives, or sends, no more. */
export const NO_RECEIVE = 1;
export const NO_SEND = 2;

/** A packet to the host; what is left out is what a well-behaved guest with much room would say. */
export interface SentPacket {
  readonly op: number;
  readonly guestPort: number;
  readonly hostPort: number;
  readonly data?: string | Uint8Array;
  readonly flags?: number;
  readonly bufAlloc?: number;
  readonly fwdCnt?: number;
  readonly type?: number;
  readonly srcCid?: number;
  readonly dstCid?: number;
  /** `len`, when it is not that of the data. */
  readonly length?: number;
}

/** A packet from the host. */
export interface ReceivedPacket {
  readonly op: number;
  readonly guestPort: number;
  readonly hostPort: number;
  readonly flags: number;
  readonly bufAlloc: number;
  readonly fwdCnt: number;
  readonly type: number;
  readonly srcCid: number;
  readonly dstCid: number;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** A driver whose receive queue is always full of buffers. */
export class VsockDriver {
  /** Where the buffers of the receive queue lie, by head. */
  readonly #buffers = new Map<number, number>();
  #unannounced = 0;
  /** Packets nobody has asked for yet. */
  #waiting: ReceivedPacket[] = [];

  private constructor(
    readonly driver: VirtioDriver,
    readonly cid: number,
    private readonly insists: boolean,
  ) {}

  /**
   * Finds the device, starts it and gives it buffers.
   *
   * @param options `insists`: notifies again while it waits, for a device that loses notifications; `memory` is shared by the
   * drivers of a puppet
   */
  static async start(
    puppet: Puppet,
    options: { insists?: boolean; memory?: DriverMemory } = {},
  ): Promise<VsockDriver> {
    const memory = options.memory ?? new DriverMemory(puppet);
    const driver = await VirtioDriver.start(memory, VSOCK, ~0n, QUEUE_SIZE);
    const vsock = new VsockDriver(driver, await driver.readConfig(0), options.insists ?? false);
    await vsock.#fill();
    return vsock;
  }

  /** Resets the device and starts it again. */
  async restart(): Promise<void> {
    await this.driver.restart(~0n, QUEUE_SIZE);
    await this.#fill();
  }

  async #fill(): Promise<void> {
    this.#buffers.clear();
    this.#waiting = [];
    for (let i = 0; i < QUEUE_SIZE; i++) await this.#offer();
    await this.driver.notify(RX);
  }

  async #offer(): Promise<void> {
    const { head, addresses } = await this.driver.queues[RX].submit({ receive: RX_BUFFER_BYTES });
    this.#buffers.set(head, addresses[0]);
  }

  /** Sends packets, all at once, and waits until the device has taken them. */
  async send(...packets: SentPacket[]): Promise<void> {
    const queue = this.driver.queues[TX];
    for (const packet of packets) await queue.submit({ send: encodePacket(packet, this.cid) });
    await this.driver.notify(TX);
    for (let i = 0; i < packets.length; i++) {
      await eventually("the end of a packet to the host", async () => {
        if (this.insists) await this.driver.notify(TX);
        return await queue.poll();
      });
    }
  }

  /**
   * The next packet of the host, or the next one for a port of the guest: packets for others wait. A device gives a connection
   * up that waits for a slow test, and says so when nobody asks: name the port.
   */
  async receive(guestPort?: number): Promise<ReceivedPacket> {
    const isMeant = (packet: ReceivedPacket) => guestPort === undefined || packet.guestPort === guestPort;
    return await eventually("a packet of the host", async () => {
      const waiting = this.#waiting.findIndex(isMeant);
      if (waiting >= 0) return this.#waiting.splice(waiting, 1)[0];
      const packet = await this.#take();
      if (packet === undefined || isMeant(packet)) return packet;
      this.#waiting.push(packet);
      return undefined;
    });
  }

  /** The next packet of the host, if there is one. */
  async poll(): Promise<ReceivedPacket | undefined> {
    return this.#waiting.shift() ?? await this.#take();
  }

  async #take(): Promise<ReceivedPacket | undefined> {
    const done = await this.driver.queues[RX].poll();
    if (done === undefined) return undefined;
    const { puppet } = this.driver.memory;
    const bytes = await puppet.readMemory(
      this.#buffers.get(done.head)!,
      Math.max(done.writtenBytes, HEADER_BYTES),
    );
    this.#buffers.delete(done.head);
    await this.#offer();
    if (++this.#unannounced === ANNOUNCE_EVERY) {
      this.#unannounced = 0;
      await this.driver.notify(RX);
    }
    return decodePacket(bytes);
  }

  /** Opens a connection to host port `hostPort`. @returns the host's answer */
  async connect(
    guestPort: number,
    hostPort: number,
    more: Partial<SentPacket> = {},
  ): Promise<ReceivedPacket> {
    await this.send({ op: OP.REQUEST, guestPort, hostPort, ...more });
    return await this.receive(guestPort);
  }

  /** Gives the device a buffer for an event. @returns the event's number, once it comes */
  async event(): Promise<() => Promise<number>> {
    const queue = this.driver.queues[EVENT];
    const { addresses } = await queue.submit({ receive: 8 });
    await this.driver.notify(EVENT);
    return async () => {
      await queue.complete();
      const bytes = await this.driver.memory.puppet.readMemory(addresses[0], 4);
      return new DataView(bytes.buffer).getUint32(0, true);
    };
  }
}

/** The bytes of a packet of the guest with context id `cid`. */
export function encodePacket(packet: SentPacket, cid: number): Uint8Array {
  const { data = "" } = packet;
  const payload = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, packet.srcCid ?? cid, true);
  view.setUint32(8, packet.dstCid ?? HOST_CID, true);
  view.setUint32(16, packet.guestPort, true);
  view.setUint32(20, packet.hostPort, true);
  view.setUint32(24, packet.length ?? payload.length, true);
  view.setUint16(28, packet.type ?? TYPE_STREAM, true);
  view.setUint16(30, packet.op, true);
  view.setUint32(32, packet.flags ?? 0, true);
  view.setUint32(36, packet.bufAlloc ?? 0x4_0000, true);
  view.setUint32(40, packet.fwdCnt ?? 0, true);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

function decodePacket(bytes: Uint8Array<ArrayBuffer>): ReceivedPacket {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = view.getUint32(24, true);
  const payload = bytes.slice(HEADER_BYTES, HEADER_BYTES + length);
  return {
    srcCid: view.getUint32(0, true),
    dstCid: view.getUint32(8, true),
    hostPort: view.getUint32(16, true),
    guestPort: view.getUint32(20, true),
    length,
    type: view.getUint16(28, true),
    op: view.getUint16(30, true),
    flags: view.getUint32(32, true),
    bufAlloc: view.getUint32(36, true),
    fwdCnt: view.getUint32(40, true),
    bytes: payload,
    text: new TextDecoder().decode(payload),
  };
}

/** One end of a UNIX stream on the host. */
export class HostStream implements Disposable {
  #closed = false;

  constructor(readonly connection: Deno.UnixConn) {}

  static async connect(path: string): Promise<HostStream> {
    return new HostStream(await Deno.connect({ transport: "unix", path }));
  }

  async write(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    for (let done = 0; done < bytes.length;) done += await this.connection.write(bytes.subarray(done));
  }

  /** Reads exactly `lengthBytes`, or less at the end. */
  async read(lengthBytes: number): Promise<string> {
    const bytes = new Uint8Array(lengthBytes);
    let done = 0;
    while (done < lengthBytes) {
      const count = await this.connection.read(bytes.subarray(done));
      if (count === null) break;
      done += count;
    }
    return new TextDecoder().decode(bytes.subarray(0, done));
  }

  /** Reads a line, its end included, or what there is at the end. */
  async line(): Promise<string> {
    let text = "";
    while (!text.endsWith("\n")) {
      const next = await this.read(1);
      if (next === "") break;
      text += next;
    }
    return text;
  }

  /** Waits for the end of the stream. @returns "end", or "reset" when the other side did not wait for what was sent */
  async end(): Promise<"end" | "reset" | "data"> {
    try {
      return await this.connection.read(new Uint8Array(1)) === null ? "end" : "data";
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe) {
        return "reset";
      }
      throw error;
    }
  }

  async endSending(): Promise<void> {
    await this.connection.closeWrite();
  }

  close(): void {
    if (!this.#closed) this.connection.close();
    this.#closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A service of the host for one port of the guest's host: `<socket>_<port>`. */
export class HostService implements Disposable {
  readonly #listener: Deno.UnixListener;

  constructor(socket: string, port: number) {
    this.#listener = Deno.listen({ transport: "unix", path: `${socket}_${port}` });
  }

  async accept(): Promise<HostStream> {
    return new HostStream(await this.#listener.accept());
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}
