/**
 * One connection between a socket of the guest and a stream of the host.
 *
 * L4, I/O Worker. Towards the guest, bytes are read straight into the driver's buffers, and only as many as the guest has
 * credit for; what it cannot take stays in the host's socket. Towards the host, bytes are written straight from the driver's
 * buffers; what the host does not take is kept here, up to the credit given to the guest. A guest that sends beyond its credit
 * loses the connection. The connection never does anything by itself: `VsockHandler` asks it for packets.
 * Source: virtio 1.2 §5.10.6.
 */
import type { HostStream } from "@vmm/virtio/ports/streams.ts";
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import type { HeaderWriter, ReceivedHeader } from "./packet.ts";
import { SEND_BUFFER_BYTES, SendBuffer } from "./send_buffer.ts";
import {
  PacketHeader,
  SHUTDOWN_BOTH,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE,
  VIRTIO_VSOCK_OP_RST,
  VIRTIO_VSOCK_OP_RW,
  VIRTIO_VSOCK_OP_SHUTDOWN,
  VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE,
  VIRTIO_VSOCK_SHUTDOWN_F_SEND,
} from "./spec.ts";

const EPOLLIN = 1;
const EPOLLOUT = 4;
const EPOLLERR = 8;
const EPOLLHUP = 16;
const EAGAIN = 11;

/** Most buffers that are filled by one call. */
export const MAX_RUN = 16;

/** The guest is told of new credit when it has used up this much of what it knows of. */
const CREDIT_STEP_BYTES = SEND_BUFFER_BYTES / 2;

/**
 * Life of a connection: waiting for a busy host service; waiting for the guest's answer; open; closed on one side for good, the
 * rest being delivered; to be reset, which ends it.
 */
export type ConnectionState = "connecting" | "requested" | "open" | "closing" | "dead";

/** Packets that are due, as bits. Data is due whenever the stream is readable and the guest has credit. */
const Due = { reset: 1, request: 2, response: 4, shutdown: 8, creditRequest: 16, creditUpdate: 32 } as const;

/** See the module. */
export class Connection {
  state: ConnectionState;
  /** Events the stream is watched for; kept by the handler. */
  watched = 0;
  /** In the handler's queue of connections with packets. */
  queued = false;
  /** Ticks until the connection is given up; 0: it may stay. Counted by the handler. */
  ticksLeft = 0;

  #due: number;
  #shutdownFlags = 0;
  /** Bytes, or the end, wait in the stream. */
  #readable = false;
  /** That was said again before it was of use. */
  #saidTwice = false;
  /** Buffers to be filled by one call: more each time all were, as few as possible after a call that left some empty. */
  #run = 1;
  /** The peer of the stream is gone. */
  #hungUp = false;
  /** The guest knows that the host sends no more. */
  #hostEnded = false;
  #guestSendsNoMore = false;
  #guestReceivesNoMore = false;
  readonly #buffer = new SendBuffer();
  /** Bytes the host has taken, and that number as the guest knows it. Both wrap at 2^32, as those below. */
  #forwarded = 0;
  #told = 0;
  /** Room of the guest, what it has taken of it, what it was given. */
  #peerRoom = 0;
  #peerTaken = 0;
  #given = 0;

  private constructor(
    readonly hostPort: number,
    readonly guestPort: number,
    public stream: HostStream | undefined,
    /** Who began it. */
    readonly byHost: boolean,
    private readonly expiryTicks: number,
  ) {
    this.state = byHost ? "requested" : stream === undefined ? "connecting" : "open";
    this.#due = byHost ? Due.request : stream === undefined ? 0 : Due.response;
  }

  /** A program on the host wants port `guestPort` of the guest. */
  static fromHost(hostPort: number, guestPort: number, stream: HostStream, expiryTicks: number): Connection {
    return new Connection(hostPort, guestPort, stream, true, expiryTicks);
  }

  /** The guest wants host port `hostPort`; without a stream `connected` has to follow. */
  static fromGuest(header: ReceivedHeader, stream: HostStream | undefined, expiryTicks: number): Connection {
    const connection = new Connection(header.hostPort, header.guestPort, stream, false, expiryTicks);
    connection.#takeCredit(header);
    if (stream === undefined) connection.ticksLeft = expiryTicks;
    return connection;
  }

  /** The busy service has accepted. */
  connected(stream: HostStream): void {
    this.stream = stream;
    this.state = "open";
    this.ticksLeft = 0;
    this.#due |= Due.response;
  }

  /** Ends the connection: the guest gets a reset. */
  kill(): void {
    this.state = "dead";
    this.#due = Due.reset;
    this.#buffer.clear();
  }

  /** True if `fill` has something to say. */
  hasPacket(): boolean {
    return this.#due !== 0 || this.#hasData();
  }

  /** How many buffers `receive` could fill; at most one if there is anything to say but data. */
  get runLength(): number {
    return this.#due === 0 && this.#hasData() ? this.#run : 1;
  }

  /** Bytes the guest has room for. A guest that contradicts itself gets none. */
  get credit(): number {
    const underWay = (this.#given - this.#peerTaken) >>> 0;
    return Math.max(0, this.#peerRoom - underWay);
  }

  /** Reads into `buffers`, not beyond the guest's credit. Returns bytes, for which `writeData` makes packets; 0 if there are none. */
  receive(buffers: DescriptorChain): number {
    const count = buffers.gather(true, 0, buffers.writableBytes);
    const wanted = buffers.gatheredBytes;
    const got = this.stream!.receive(buffers.iovec, count);
    if (got > 0) {
      // behind a peer that is gone there is still the end to be read
      if (got < wanted && !this.#hungUp) this.#consumed();
      this.#run = got < wanted ? 1 : Math.min(2 * this.#run, MAX_RUN);
      this.#given = (this.#given + got) >>> 0;
      this.#askForCredit();
      return got;
    }
    this.#consumed();
    if (got === 0) this.#hostEnds();
    else if (got !== -EAGAIN) this.kill();
    return 0;
  }

  /** Makes a packet of `lengthBytes` that are in the buffer already; returns its length. */
  writeData(chain: DescriptorChain, writer: HeaderWriter, lengthBytes: number): number {
    return this.#write(chain, writer, VIRTIO_VSOCK_OP_RW, lengthBytes);
  }

  #hasData(): boolean {
    return this.#canRead() && this.credit > 0;
  }

  #consumed(): void {
    this.#readable = this.#saidTwice = false;
  }

  /** Events to watch the stream for. One that cannot be read now is not asked again once it has repeated itself. */
  interest(): number {
    if (this.stream === undefined || this.state === "dead") return 0;
    let events = this.#buffer.length > 0 ? EPOLLOUT : 0;
    if (this.state !== "open" || this.#hungUp) return events;
    if (this.#hostEnded || this.#guestReceivesNoMore) events |= EPOLLHUP;
    else if (!this.#saidTwice) events |= EPOLLIN;
    return events;
  }

  /** The stream has something to say. */
  ready(events: number): void {
    if ((events & (EPOLLHUP | EPOLLERR)) !== 0 && !this.#hungUp) {
      this.#hungUp = true;
      if (this.#hostEnded || this.#guestReceivesNoMore) this.#hostLeft();
    }
    if ((events & ~EPOLLOUT) !== 0) {
      this.#saidTwice = this.#readable;
      this.#readable = true;
      if (!this.#saidTwice) this.#askForCredit();
    }
    if ((events & EPOLLOUT) !== 0 && this.#buffer.length > 0) this.#flush();
  }

  /** A packet of data; true if its data is to be handed to `forward`. */
  takesData(header: ReceivedHeader): boolean {
    this.#takeCredit(header);
    return this.state === "open" && !this.#guestSendsNoMore && header.lengthBytes > 0;
  }

  /** A packet of the guest that is neither a reset nor data. */
  take(header: ReceivedHeader): void {
    this.#takeCredit(header);
    switch (header.op) {
      case VIRTIO_VSOCK_OP_RESPONSE:
        if (this.state === "requested") this.#accepted();
        return;
      case VIRTIO_VSOCK_OP_SHUTDOWN:
        this.#guestShutsDown(header.flags);
        return;
      case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        if (this.state === "open") this.#due |= Due.creditUpdate;
        return;
      default: // credit updates have done their work; what else there may be is of no concern
    }
  }

  /**
   * Writes the next packet into the driver's buffer, which has room for a header at least; returns its length, 0 if there is
   * none after all. A reset is the last packet of a connection. `scratch` is free to use.
   */
  fill(chain: DescriptorChain, writer: HeaderWriter, scratch: DescriptorChain): number {
    if (this.#takeDue(Due.reset)) return this.#write(chain, writer, VIRTIO_VSOCK_OP_RST);
    if (this.#takeDue(Due.request)) {
      this.ticksLeft = this.expiryTicks;
      return this.#write(chain, writer, VIRTIO_VSOCK_OP_REQUEST);
    }
    if (this.#takeDue(Due.response)) return this.#write(chain, writer, VIRTIO_VSOCK_OP_RESPONSE);
    if (this.#hasData()) {
      const length = this.#fillData(chain, writer, scratch);
      if (length > 0) return length;
      if (this.#takeDue(Due.reset)) return this.#write(chain, writer, VIRTIO_VSOCK_OP_RST);
    }
    if (this.#takeDue(Due.shutdown)) {
      return this.#write(chain, writer, VIRTIO_VSOCK_OP_SHUTDOWN, 0, this.#shutdownFlags);
    }
    if (this.#takeDue(Due.creditRequest)) return this.#write(chain, writer, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    if (this.#takeDue(Due.creditUpdate)) return this.#write(chain, writer, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    return 0;
  }

  #takeDue(bit: number): boolean {
    const due = (this.#due & bit) !== 0;
    this.#due &= ~bit;
    return due;
  }

  #write(chain: DescriptorChain, writer: HeaderWriter, op: number, lengthBytes = 0, flags = 0): number {
    this.#told = this.#forwarded;
    this.#due &= ~Due.creditUpdate; // every packet carries it
    const { hostPort, guestPort } = this;
    return writer.write(
      chain,
      hostPort,
      guestPort,
      op,
      lengthBytes,
      flags,
      SEND_BUFFER_BYTES,
      this.#forwarded,
    );
  }

  #canRead(): boolean {
    return this.#readable && this.state === "open" && !this.#hostEnded && !this.#guestReceivesNoMore;
  }

  /** Something waits for the guest, who has no room for it as far as we know. */
  #askForCredit(): void {
    if (this.#canRead() && this.credit === 0) this.#due |= Due.creditRequest;
  }

  #takeCredit(header: ReceivedHeader): void {
    this.#peerRoom = header.bufAlloc;
    this.#peerTaken = header.fwdCnt;
    if (this.credit > 0) this.#due &= ~Due.creditRequest;
  }

  #fillData(chain: DescriptorChain, writer: HeaderWriter, scratch: DescriptorChain): number {
    const room = chain.writableBytes - PacketHeader.size;
    // A buffer for a header only: something has to be done with it.
    if (room <= 0) return this.#write(chain, writer, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    scratch.clear();
    scratch.append(chain, true, PacketHeader.size, Math.min(room, this.credit));
    const got = this.receive(scratch);
    return got > 0 ? this.writeData(chain, writer, got) : 0;
  }

  /** The host sends no more. */
  #hostEnds(): void {
    if (this.#hungUp) return this.#hostLeft();
    this.#hostEnded = true;
    if (!this.#guestSendsNoMore) return this.#tellShutdown(VIRTIO_VSOCK_SHUTDOWN_F_SEND);
    this.#finish();
    if (this.state === "closing") this.#tellShutdown(VIRTIO_VSOCK_SHUTDOWN_F_SEND);
  }

  /** The host neither sends nor receives any more; the guest may take what it was sent, and then resets. */
  #hostLeft(): void {
    this.#buffer.clear();
    this.#tellShutdown(SHUTDOWN_BOTH);
    this.#close();
  }

  #tellShutdown(flags: number): void {
    this.#shutdownFlags |= flags;
    this.#due |= Due.shutdown;
  }

  #guestShutsDown(flags: number): void {
    if (this.state === "requested") return this.kill();
    if (this.state !== "open" && this.state !== "closing") return;
    const sentBefore = this.#guestSendsNoMore;
    this.#guestSendsNoMore ||= (flags & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0;
    this.#guestReceivesNoMore ||= (flags & VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE) !== 0;
    if (this.#guestSendsNoMore && (this.#guestReceivesNoMore || this.#hostEnded)) this.#finish();
    else if (this.#guestSendsNoMore && !sentBefore && this.#buffer.length === 0) this.stream!.endSending();
  }

  /** Nothing goes either way any more: the end comes when the host has taken what the guest sent. */
  #finish(): void {
    if (this.#buffer.length === 0) this.kill();
    else this.#close();
  }

  #close(): void {
    this.state = "closing";
    this.ticksLeft = this.expiryTicks;
  }

  /** The guest has accepted what the host asked for. */
  #accepted(): void {
    this.state = "open";
    this.ticksLeft = 0;
    const answer = new TextEncoder().encode(`OK ${this.hostPort}\n`);
    if (this.stream!.sendBytes(answer) !== answer.byteLength) this.kill();
  }

  /** Sends the readable bytes of `data`, from one packet of the guest or several, to the host. */
  forward(data: DescriptorChain): void {
    const lengthBytes = data.readableBytes;
    let sent = 0;
    if (this.#buffer.length === 0) {
      const count = data.gather(false, 0, lengthBytes);
      sent = this.stream!.send(data.iovec, count);
      if (sent === -EAGAIN) sent = 0;
      if (sent < 0) return this.kill();
    }
    this.#countForwarded(sent);
    const rest = lengthBytes - sent;
    if (rest > 0 && !this.#buffer.add(data, sent, rest)) this.kill();
  }

  #flush(): void {
    const sent = this.#buffer.flush(this.stream!);
    if (sent < 0) return this.kill();
    this.#countForwarded(sent);
    if (this.#buffer.length > 0) return;
    if (this.state === "closing") this.kill();
    else if (this.#guestSendsNoMore) this.stream!.endSending();
  }

  #countForwarded(bytes: number): void {
    this.#forwarded = (this.#forwarded + bytes) >>> 0;
    const news = (this.#forwarded - this.#told) >>> 0;
    if (news >= CREDIT_STEP_BYTES && this.state === "open") this.#due |= Due.creditUpdate;
  }
}
