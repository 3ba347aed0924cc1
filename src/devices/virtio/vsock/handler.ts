/**
 * Serves the queues of a socket device: connections between sockets of the guest and UNIX sockets of the host.
 *
 * L4, I/O Worker. Host programs connect and say which port they want (`connect_command.ts`); the guest's requests for port P
 * become connections to the host's service P. Connections with something to say queue up and take turns. What is kept for the
 * guest is bounded: control packets are bits of a connection, data stays in the host's sockets, and when too many resets for
 * unknown connections wait, the guest's packets wait too (§5.10.6.1.2). A reset of the device ends all connections.
 * Source: virtio 1.2 §5.10.6; machine model §8 "vsock (hybrid)".
 */
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import type { HostStream, StreamHost } from "@vmm/virtio/ports/streams.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import type { SplitQueue } from "@vmm/virtio/queue/split.ts";
import { ConnectCommand } from "./connect_command.ts";
import { Connection, MAX_RUN } from "./connection.ts";
import { ConnectionTable } from "./connection_table.ts";
import { HeaderWriter, ReceivedHeader } from "./packet.ts";
import {
  EVENT_BYTES,
  EVENT_QUEUE,
  PacketHeader,
  RX_QUEUE,
  TX_QUEUE,
  VIRTIO_VSOCK_EVENT_TRANSPORT_RESET,
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_OP_RST,
  VIRTIO_VSOCK_OP_RW,
  VIRTIO_VSOCK_TYPE_STREAM,
} from "./spec.ts";

/** Order of main: the guest comes from a snapshot, its connections are gone. */
export const VSOCK_TRANSPORT_RESET = "transport-reset";
/** Order of main: which connections there are, for a snapshot. Answer: `[host port, guest port]` of each. */
export const VSOCK_CONNECTIONS = "connections";

/** What the handler is given besides the activation. */
export interface VsockHandlerOptions {
  readonly host: StreamHost;
}

/** Connections there may be, those included that have not said yet what they want. */
const MAX_CONNECTIONS = 1023;
/** Resets for unknown connections that may wait for the driver's buffers. */
const MAX_RESETS = 256;
const TURN_PACKETS = 128;
const TURN_ACCEPTS = 16;
/** Pieces of guest memory that are gathered for one call. */
const MAX_PIECES = 512;
/** Longest packet a guest may send, data only. */
const MAX_DATA_BYTES = 64 << 10;
/** A connection that waits for its other side is given up after 2 s: five ticks, the first of which may come at once. */
const TICK_MS = 500;
const EXPIRY_TICKS = 5;
/** How soon busy host services are asked again, and how many of them at a time. */
const RETRY_MS = 20;
const RETRY_CONNECTIONS = 32;
/** How long nobody is accepted after the host refused a descriptor. */
const ACCEPT_PAUSE_MS = 1000;
const EPOLLIN = 1;
const EAGAIN = 11;

/** Starts a socket device. */
export function createVsockHandler(activation: Activation, options: VsockHandlerOptions): QueueHandler {
  return new VsockHandler(activation, options.host);
}

class VsockHandler implements QueueHandler {
  readonly #rx: SplitQueue;
  readonly #tx: SplitQueue;
  /** Buffers of the driver that are filled by one call; the first one serves wherever one is enough. */
  readonly #rxChains = Array.from({ length: MAX_RUN }, () => new DescriptorChain());
  readonly #rxRooms = new Uint32Array(MAX_RUN);
  readonly #rxChain = this.#rxChains[0];
  readonly #rxParts = new DescriptorChain();
  readonly #txChain = new DescriptorChain();
  /** Data of packets that follow each other on one connection: it is sent by one call. */
  readonly #txParts = new DescriptorChain();
  #sender: Connection | undefined;
  readonly #header = new ReceivedHeader();
  readonly #writer: HeaderWriter;
  readonly #connections = new ConnectionTable();
  /** Accepted, port not known yet. */
  readonly #commands = new Set<ConnectCommand>();
  /** Connections with something to say, longest waiting first. */
  readonly #ready: Connection[] = [];
  /** Connections with a limited time. */
  readonly #expiring = new Set<Connection>();
  /** Pairs of host port and guest port that get a reset. */
  readonly #resets: number[] = [];
  readonly #timers = new Map<"turn" | "tick" | "retry" | "accept", () => void>();
  #eventDue = false;

  constructor(private readonly activation: Activation, private readonly host: StreamHost) {
    this.#rx = activation.queues[RX_QUEUE];
    this.#tx = activation.queues[TX_QUEUE];
    const { config } = activation;
    this.#writer = new HeaderWriter((config[0] | config[1] << 8 | config[2] << 16 | config[3] << 24) >>> 0);
    activation.env.watch(host.listenFd, EPOLLIN, () => this.#accept());
  }

  onKick(index: number): void {
    if (index === EVENT_QUEUE) this.#deliverEvent();
    else this.#serve();
  }

  onCommand(command: { kind: string }): unknown {
    if (command.kind === VSOCK_CONNECTIONS) return this.#connections.ports();
    if (command.kind !== VSOCK_TRANSPORT_RESET) return undefined;
    for (const connection of [...this.#connections]) this.#remove(connection);
    this.#eventDue = true;
    this.#deliverEvent();
    return undefined;
  }

  /** Nothing is in flight between two calls; what has not moved yet stays where it is. */
  drain(): void {}

  close(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    for (const connection of [...this.#connections]) this.#remove(connection);
    for (const command of this.#commands) this.#drop(command);
    this.#resets.length = this.#ready.length = 0;
    this.activation.env.unwatch(this.host.listenFd);
  }

  /** Takes the guest's packets and gives it ours, for one turn. */
  #serve(): void {
    const more = this.#receive();
    const undelivered = this.#deliver();
    if (undelivered || (more && !this.#hasTooManyResets())) this.#later("turn", 0, () => this.#serve());
  }

  #hasTooManyResets(): boolean {
    return this.#resets.length >= 2 * MAX_RESETS;
  }

  #later(name: "turn" | "tick" | "retry" | "accept", delayMs: number, call: () => void): void {
    if (this.#timers.has(name)) return;
    const cancel = this.activation.env.timer(delayMs, () => {
      this.#timers.delete(name);
      call();
    });
    this.#timers.set(name, cancel);
  }

  // --- packets of the guest ---

  /** Takes packets of the guest; true if more may be waiting. */
  #receive(): boolean {
    const queue = this.#tx;
    let left = TURN_PACKETS;
    queue.disableNotifications();
    do {
      while (left > 0 && !this.#hasTooManyResets() && queue.pop(this.#txChain)) {
        this.#take(this.#txChain);
        queue.push(this.#txChain.head, 0);
        left--;
      }
      this.#forward(); // before the driver may use its buffers again
      if (queue.publish()) this.activation.interruptQueue(TX_QUEUE);
      if (left === 0 || this.#hasTooManyResets()) return true;
    } while (queue.enableNotifications());
    if (queue.fault !== undefined) this.activation.fail(queue.fault);
    return false;
  }

  #take(chain: DescriptorChain): void {
    const header = this.#header;
    if (!header.read(chain)) return;
    const { op, lengthBytes } = header;
    const whole = lengthBytes <= MAX_DATA_BYTES && lengthBytes <= chain.readableBytes - PacketHeader.size;
    if (op === VIRTIO_VSOCK_OP_RW && whole && this.#takeData(chain)) return;
    this.#forward();
    if (header.type !== VIRTIO_VSOCK_TYPE_STREAM) return this.#reset(header.hostPort, header.guestPort);
    if (!header.isForHost) return;
    const connection = this.#connections.of(header);
    if (op === VIRTIO_VSOCK_OP_RST) {
      if (connection !== undefined) this.#remove(connection);
    } else if (connection === undefined) {
      if (op === VIRTIO_VSOCK_OP_REQUEST) this.#guestConnects(header);
      else this.#reset(header.hostPort, header.guestPort);
    } else {
      if (whole) connection.take(header);
      else connection.kill();
      this.#settle(connection);
    }
  }

  /** Gathers the data of the packet just read, if its connection takes any; false if it has to be looked at. */
  #takeData(chain: DescriptorChain): boolean {
    const header = this.#header;
    if (header.type !== VIRTIO_VSOCK_TYPE_STREAM || !header.isForHost) return false;
    const connection = this.#connections.of(header);
    if (connection === undefined || !connection.takesData(header)) return false;
    const parts = this.#txParts;
    if (connection !== this.#sender || parts.count + chain.readableCount > MAX_PIECES) this.#forward();
    this.#sender = connection;
    parts.append(chain, false, PacketHeader.size, header.lengthBytes);
    return true;
  }

  /** Hands over what was gathered. */
  #forward(): void {
    const connection = this.#sender;
    if (connection === undefined) return;
    this.#sender = undefined;
    connection.forward(this.#txParts);
    this.#txParts.clear();
    this.#settle(connection);
  }

  #reset(hostPort: number, guestPort: number): void {
    this.#resets.push(hostPort, guestPort);
  }

  #guestConnects(header: ReceivedHeader): void {
    const { hostPort, guestPort } = header;
    if (this.#isFull()) this.#dropSilent();
    const stream = this.#isFull() ? undefined : this.host.connect(hostPort);
    if (stream === undefined || (typeof stream === "number" && stream !== -EAGAIN)) {
      return this.#reset(hostPort, guestPort);
    }
    if (typeof stream === "number") {
      this.#add(Connection.fromGuest(header, undefined, EXPIRY_TICKS));
      this.#later("retry", RETRY_MS, () => this.#retry());
    } else this.#add(Connection.fromGuest(header, stream, EXPIRY_TICKS));
  }

  #hasConnecting(): boolean {
    for (const connection of this.#expiring) if (connection.state === "connecting") return true;
    return false;
  }

  /** Asks busy services again. */
  #retry(): void {
    let left = RETRY_CONNECTIONS;
    for (const connection of this.#expiring) {
      if (connection.state !== "connecting") continue;
      if (left-- === 0) break;
      const stream = this.host.connect(connection.hostPort);
      if (stream === -EAGAIN) continue;
      if (typeof stream === "number") connection.kill();
      else {
        connection.connected(stream);
        this.#watch(connection, stream);
      }
      this.#settle(connection);
    }
    this.#serve();
    if (this.#hasConnecting()) this.#later("retry", RETRY_MS, () => this.#retry());
  }

  // --- packets for the guest ---

  /** Fills the driver's buffers; true if there is more to say and there may be more buffers. */
  #deliver(): boolean {
    const queue = this.#rx;
    const chain = this.#rxChain;
    let left = TURN_PACKETS;
    let blocked = false;
    while (left > 0 && (this.#resets.length > 0 || this.#ready.length > 0)) {
      if (!queue.pop(chain)) {
        // only now is a notification of use
        if (queue.enableNotifications()) continue;
        blocked = true;
        break;
      }
      if (chain.writableBytes < PacketHeader.size) queue.push(chain.head, 0);
      else if (this.#resets.length > 0) {
        const [hostPort, guestPort] = this.#resets.splice(0, 2);
        queue.push(chain.head, this.#writer.write(chain, hostPort, guestPort, VIRTIO_VSOCK_OP_RST));
      } else left -= this.#deliverOne(queue, chain) - 1;
      left--;
    }
    if (!blocked) queue.disableNotifications();
    if (queue.publish()) this.activation.interruptQueue(RX_QUEUE);
    if (queue.fault !== undefined) this.activation.fail(queue.fault);
    return !blocked && left <= 0;
  }

  /** Gives the next connection its turn, with the buffer in `chain`. Returns the buffers it used. */
  #deliverOne(queue: SplitQueue, chain: DescriptorChain): number {
    const connection = this.#ready.shift()!;
    connection.queued = false;
    const run = connection.runLength;
    let used: number;
    if (run > 1 && chain.writableBytes > PacketHeader.size) used = this.#deliverRun(queue, connection, run);
    else {
      const length = connection.fill(chain, this.#writer, this.#rxParts);
      used = length > 0 ? 1 : 0;
      if (length > 0) queue.push(chain.head, length);
      else queue.rewind();
    }
    // its reset was the last word
    if (connection.state === "dead" && !connection.hasPacket()) this.#remove(connection);
    else this.#settle(connection);
    return used;
  }

  /** Fills up to `run` buffers by one call; the first one is popped already, and has room. Returns how many it filled. */
  #deliverRun(queue: SplitQueue, connection: Connection, run: number): number {
    const chains = this.#rxChains;
    const parts = this.#rxParts;
    parts.clear();
    const { credit } = connection;
    let popped = 0;
    do {
      const chain = chains[popped++];
      const room = Math.min(chain.writableBytes - PacketHeader.size, credit - parts.writableBytes);
      if (room <= 0) break;
      this.#rxRooms[popped - 1] = room;
      parts.append(chain, true, PacketHeader.size, room);
    } while (popped < run && queue.pop(chains[popped]));
    let used = 0;
    for (let left = connection.receive(parts); left > 0; used++) {
      const length = Math.min(left, this.#rxRooms[used]);
      queue.push(chains[used].head, connection.writeData(chains[used], this.#writer, length));
      left -= length;
    }
    queue.rewind(popped - used);
    return used;
  }

  /** Tells the driver that its connections are gone, once it has a buffer for it. */
  #deliverEvent(): void {
    const queue = this.activation.queues[EVENT_QUEUE];
    const chain = this.#rxChain;
    while (this.#eventDue && queue.pop(chain)) {
      const fits = chain.writableBytes >= EVENT_BYTES;
      if (fits) {
        chain.writeU32(0, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
        this.#eventDue = false;
      }
      queue.push(chain.head, fits ? EVENT_BYTES : 0);
    }
    if (queue.publish()) this.activation.interruptQueue(EVENT_QUEUE);
    if (queue.fault !== undefined) this.activation.fail(queue.fault);
  }

  // --- connections ---

  #isFull(): boolean {
    return this.#connections.size + this.#commands.size >= MAX_CONNECTIONS;
  }

  #add(connection: Connection): void {
    this.#connections.add(connection);
    if (connection.stream !== undefined) this.#watch(connection, connection.stream);
    this.#settle(connection);
  }

  #watch(connection: Connection, stream: HostStream): void {
    connection.watched = connection.interest();
    this.activation.env.watch(stream.fd, connection.watched, (events) => {
      connection.ready(events);
      this.#settle(connection);
      this.#serve();
    });
  }

  /** Does what a change of the connection asks for: watches, the queue for the guest, its time limit. */
  #settle(connection: Connection): void {
    if (!connection.queued && connection.hasPacket()) {
      connection.queued = true;
      this.#ready.push(connection);
    }
    if (connection.ticksLeft > 0 && !this.#expiring.has(connection)) {
      this.#expiring.add(connection);
      this.#later("tick", TICK_MS, () => this.#tick());
    }
    const { stream } = connection;
    if (stream === undefined) return;
    if (connection.state === "dead") {
      // the host learns of it at once, the guest when it has a buffer
      connection.stream = undefined;
      return this.#end(stream);
    }
    const wanted = connection.interest();
    if (wanted === connection.watched) return;
    connection.watched = wanted;
    this.activation.env.rewatch(stream.fd, wanted);
  }

  #remove(connection: Connection): void {
    this.#connections.delete(connection);
    this.#expiring.delete(connection);
    // a guest without buffers may open and reset for ever
    if (connection.queued) this.#ready.splice(this.#ready.indexOf(connection), 1);
    if (connection.stream !== undefined) this.#end(connection.stream);
  }

  #end(stream: HostStream): void {
    this.activation.env.unwatch(stream.fd);
    stream.close();
  }

  #tick(): void {
    for (const connection of this.#expiring) {
      if (connection.ticksLeft > 0 && --connection.ticksLeft > 0) continue;
      this.#expiring.delete(connection);
      const waits = connection.state !== "open" && connection.state !== "dead";
      if (!waits) continue;
      connection.kill();
      this.#settle(connection);
    }
    if (this.#expiring.size > 0) this.#later("tick", TICK_MS, () => this.#tick());
    this.#serve();
  }

  // --- programs of the host ---

  #accept(): void {
    for (let i = 0; i < TURN_ACCEPTS; i++) {
      const stream = this.host.accept();
      if (stream === -EAGAIN) return;
      if (typeof stream === "number") return this.#pauseAccepting(-stream);
      if (this.#isFull()) this.#dropSilent();
      if (this.#isFull()) {
        stream.close();
        continue;
      }
      const command = new ConnectCommand(stream);
      this.#commands.add(command);
      this.activation.env.watch(stream.fd, EPOLLIN, () => this.#readCommand(command));
    }
  }

  /** Programs that say nothing must not keep others away: the one that has been silent longest makes room. */
  #dropSilent(): void {
    for (const command of this.#commands) return this.#drop(command);
  }

  /** Level-triggered readiness would be reported for ever. */
  #pauseAccepting(errno: number): void {
    const { env, id } = this.activation;
    const text = `Cannot accept a connection for "${id}": errno ${errno}`;
    env.post({ kind: "log", level: "warn", key: `vsock:${id}`, text });
    env.rewatch(this.host.listenFd, 0);
    this.#later("accept", ACCEPT_PAUSE_MS, () => env.rewatch(this.host.listenFd, EPOLLIN));
  }

  #readCommand(command: ConnectCommand): void {
    const port = command.read();
    if (port === "incomplete") return;
    if (port === "invalid") return this.#drop(command);
    this.#commands.delete(command);
    this.activation.env.unwatch(command.stream.fd);
    const hostPort = this.#connections.freePort();
    this.#add(Connection.fromHost(hostPort, port, command.stream, EXPIRY_TICKS));
    this.#serve();
  }

  #drop(command: ConnectCommand): void {
    this.#commands.delete(command);
    this.#end(command.stream);
  }
}
