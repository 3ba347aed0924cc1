/**
 * A vhost-user back-end in the I/O Worker: keeps the connection, serves rings through it, finds the back-end again.
 *
 * L4, I/O Worker. Requests run as scripts, one after the other, by events; only `stop` waits, for a bounded time. Whatever
 * is wrong with the back-end ends the connection; then it is looked for again and the rings are given to it anew. The guest
 * sees requests that take long. Source: spec/machine-model.md §12.
 */
import { EPOLL } from "@ffi/libc/epoll.ts";
import { close, duplicate, eventfd } from "@ffi/libc/fd.ts";
import { drainEvent, signalEvent } from "@ffi/libc/io.ts";
import { accept, connectUnix, shutdownSocket } from "@ffi/libc/socket.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import type { RingBackend, ServedDevice } from "@vmm/virtio/ports/ring_backend.ts";
import { BackendChannel } from "./channel.ts";
import { BackendFault, type Script, VhostUserConnection } from "./connection.ts";
import { override, type VhostUserDescription } from "./description.ts";
import { negotiate, readConfig, writeConfig } from "./negotiation.ts";
import {
  hasBit,
  type SharedRegion,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VhostUser,
} from "./protocol.ts";
import {
  acceptFeatures,
  addMemory,
  askInflight,
  enableRing,
  giveInflight,
  type InflightRegion,
  shareMemory,
  startRing,
  stopRing,
} from "./ring_scripts.ts";
import { runNow, ScriptRunner } from "./script.ts";

/** What a link needs of the machine. */
export interface LinkServices {
  readonly id: string;
  /** Not a device's own environment: the link lives on while its device is paused or reset. */
  readonly env: IoEnvironment;
  /** Guest memory now. */
  readonly regions: () => readonly SharedRegion[];
  /** One per queue. */
  readonly kickFds: readonly number[];
  /** The device's configuration bytes, guest-visible. */
  readonly config: Uint8Array;
}

/** Longest wait for one answer, while others are served. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Longest wait for rings to stop, during which this Worker serves nobody. */
const STOP_TIMEOUT_MS = 3_000;
/** How often a lost back-end is looked for: at first, and after so many attempts. */
const RETRY_MS = 100;
const SLOW_RETRY_MS = 1_000;
const QUICK_ATTEMPTS = 50;

/** What the current connection has been told. */
class Progress {
  /** Negotiated, or taken over negotiated. */
  ready = false;
  memory = false;
  inflight = false;
  readonly started = new Set<number>();
}

export class VhostUserLink implements RingBackend {
  #connection: VhostUserConnection | undefined;
  #progress = new Progress();
  #runner: ScriptRunner<void> | undefined;
  /** What is to be told next, by subject: what comes up again before it was told takes no more room. */
  readonly #waiting = new Map<string, () => Script<void>>();
  #device: ServedDevice | undefined;
  #limit = Infinity;
  #inflight: InflightRegion | undefined;
  #channel: BackendChannel | undefined;
  /** Ring state was lost with a connection, and not given to another since. */
  #lost = false;
  #attempts = 0;
  #cancelRetry: (() => void) | undefined;
  #closed = false;
  /** The back-end raises one when a ring's interrupt is due. */
  readonly callFds: readonly number[];
  readonly #rings: number;
  /** Configuration as it last went to or came from the back-end. */
  readonly #knownConfig: Uint8Array;
  #configWritten: (() => void) | undefined;
  /** Configuration bytes the driver wrote since its reset: a back-end that was away is told again. */
  readonly #written = new Map<number, number>();

  constructor(private readonly description: VhostUserDescription, private readonly services: LinkServices) {
    this.#rings = description.wishes.queueCount;
    this.#knownConfig = services.config.slice();
    this.callFds = Array.from({ length: this.#rings }, () => eventfd());
    this.callFds.forEach((_, ring) => this.relay(ring, true));
    if (description.listenFd >= 0) {
      services.env.watch(description.listenFd, 0, () => this.#accept());
    }
    this.#adopt(duplicate(description.fd));
    this.#progress.ready = true;
    this.#connection!.acknowledges = this.#speaks(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    this.#run("channel", () => this.#openChannel());
  }

  start(device: ServedDevice): void {
    this.#device = device;
    if (this.#progress.ready) this.#run("start", () => this.#startRings(device));
  }

  stop(): readonly (number | undefined)[] {
    const positions: (number | undefined)[] = [];
    this.#device = undefined;
    const end = performance.now() + STOP_TIMEOUT_MS;
    const left = () => Math.max(1, end - performance.now());
    try {
      this.#runner?.finish(left());
      this.#runner = undefined;
      const scripts = [...this.#waiting.values(), () => this.#stopRings(positions)];
      this.#waiting.clear();
      for (const script of scripts) {
        if (this.#connection !== undefined) runNow(this.#connection, script(), left());
      }
    } catch (error) {
      this.#drop(error);
    }
    return positions;
  }

  forget(): void {
    close(this.#inflight?.fd ?? -1);
    this.#inflight = undefined;
    this.#progress.inflight = false;
    this.#lost = false;
    this.#limit = Infinity;
    this.#written.clear();
  }

  kick(ring: number): void {
    signalEvent(this.services.kickFds[ring]);
  }

  limit(count: number): void {
    if (count === this.#limit) return;
    this.#limit = count;
    const device = this.#device;
    if (device !== undefined && this.#progress.ready) this.#run("enable", () => this.#enableRings(device));
  }

  kickFd(queue: number): number {
    return this.services.kickFds[queue];
  }

  clearKick(queue: number): void {
    drainEvent(this.services.kickFds[queue]);
  }

  /** Passes a ring's interrupts on, or leaves that to the kernel. */
  relay(ring: number, on: boolean): void {
    const fd = this.callFds[ring];
    if (on) {
      this.services.env.watch(fd, EPOLL.IN, () => {
        if (drainEvent(fd)) this.#device?.interrupt(ring);
      });
    } else this.services.env.unwatch(fd);
  }

  /** Guest memory has grown. */
  regionAdded(region: SharedRegion): void {
    if (!this.#progress.memory) return;
    this.#run(`region ${region.gpa}`, () => this.#addRegion(region));
  }

  /** The driver wrote configuration bytes; `done` is called when the back-end has them, or cannot have them. */
  configWritten(done: () => void): void {
    this.#configWritten?.();
    this.#configWritten = done;
    if (this.#progress.ready) this.#run("config", () => this.#forwardConfig());
    else {
      this.#noteWritten();
      this.#configDone();
    }
  }

  /** Lets go of everything. `stop` comes before. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelRetry?.();
    this.forget();
    this.#disconnect();
    this.#configDone();
    const { env } = this.services;
    if (this.description.listenFd >= 0) env.unwatch(this.description.listenFd);
    for (const fd of this.callFds) {
      env.unwatch(fd);
      close(fd);
    }
  }

  // --- scripts ---

  *#openChannel(): Script<void> {
    if (!this.#speaks(VHOST_USER_PROTOCOL_F_BACKEND_REQ)) return;
    const channel = this.#channel = new BackendChannel(this.services.env, {
      configChanged: () => this.#run("refresh", () => this.#refreshConfig()),
      failed: (fault) => this.#drop(fault),
    });
    const fd = channel.takePeer();
    try {
      yield { request: VhostUser.SET_BACKEND_REQ_FD, payload: new Uint8Array(0), descriptors: [fd] };
    } finally {
      close(fd);
    }
  }

  *#startRings(device: ServedDevice): Script<void> {
    const { agreement } = this.description;
    const progress = this.#progress;
    yield* acceptFeatures(device, agreement);
    if (!progress.memory) {
      yield* shareMemory(this.services.regions(), agreement.protocolFeatures);
      progress.memory = true;
    }
    if (this.#speaks(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) && !progress.inflight && device.rings.length > 0) {
      this.#inflight ??= yield* askInflight(device.rings);
      yield* giveInflight(this.#inflight);
      progress.inflight = true;
    }
    for (const ring of device.rings) {
      const descriptors = { kickFd: this.services.kickFds[ring.index], callFd: this.callFds[ring.index] };
      progress.started.add(ring.index);
      yield* startRing(ring, this.#lost, descriptors);
    }
    yield* this.#enableRings(device);
    this.#lost = false;
    // What was finished around a stop or a loss may not have been told.
    for (const ring of device.rings) {
      device.interrupt(ring.index);
      this.kick(ring.index);
    }
  }

  *#enableRings(device: ServedDevice): Script<void> {
    for (const { index } of device.rings) {
      if (!this.#progress.started.has(index)) continue;
      yield* enableRing(index, index < this.#limit, this.description.agreement.transportFeatures);
    }
  }

  *#stopRings(positions: (number | undefined)[]): Script<void> {
    for (const index of [...this.#progress.started]) {
      positions[index] = yield* stopRing(index);
      this.#progress.started.delete(index);
    }
  }

  *#addRegion(region: SharedRegion): Script<void> {
    const { protocolFeatures } = this.description.agreement;
    if (this.#speaks(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) yield* addMemory(region);
    else yield* shareMemory(this.services.regions(), protocolFeatures);
  }

  *#refreshConfig(): Script<void> {
    const { config } = this.services;
    if (config.byteLength === 0 || !this.#forwardsConfig()) return;
    const before = config.slice();
    yield* this.#takeConfig();
    if (config.some((byte, i) => byte !== before[i])) this.#device?.configChanged();
  }

  *#forwardConfig(): Script<void> {
    const changed = this.#noteWritten();
    if (this.#forwardsConfig()) {
      for (const { offset, bytes } of changed) yield* writeConfig(offset, bytes);
      yield* this.#takeConfig(); // what a driver selects by writing shows elsewhere
    }
    this.#configDone();
  }

  *#takeConfig(): Script<void> {
    const { config } = this.services;
    const fresh = yield* readConfig(config.byteLength);
    if (fresh === undefined) return;
    override(fresh, this.description.overrides);
    config.set(fresh);
    this.#knownConfig.set(fresh);
  }

  #noteWritten(): { offset: number; bytes: Uint8Array }[] {
    const changed = changes(this.#knownConfig, this.services.config);
    for (const { offset, bytes } of changed) {
      this.#knownConfig.set(bytes, offset);
      bytes.forEach((byte, i) => this.#written.set(offset + i, byte));
    }
    return changed;
  }

  /** Meets a back-end that came back. */
  *#introduce(connection: VhostUserConnection): Script<void> {
    const { wishes, agreement } = this.description;
    const now = yield* negotiate(connection, { ...wishes, config: "none" });
    const needed = this.#device === undefined
      ? agreement.features
      : this.#device.features & agreement.features;
    if ((now.features & needed) !== needed) {
      throw new BackendFault("The back-end came back with fewer features than the driver uses");
    }
    if (now.protocolFeatures !== agreement.protocolFeatures) {
      throw new BackendFault("The back-end came back with other protocol features");
    }
    yield* this.#openChannel();
    if (this.#forwardsConfig()) {
      for (const [offset, byte] of this.#written) yield* writeConfig(offset, Uint8Array.of(byte));
      yield* this.#refreshConfig();
    }
    if (this.#device !== undefined) yield* this.#startRings(this.#device);
    this.#progress.ready = true;
    this.#attempts = 0;
    this.#log("info", "The back-end is back");
  }

  #speaks(protocolFeature: number): boolean {
    return hasBit(this.description.agreement.protocolFeatures, protocolFeature);
  }

  #forwardsConfig(): boolean {
    return this.#speaks(VHOST_USER_PROTOCOL_F_CONFIG) && this.description.followsConfig;
  }

  #configDone(): void {
    const done = this.#configWritten;
    this.#configWritten = undefined;
    done?.();
  }

  // --- running them ---

  #run(subject: string, script: () => Script<void>): void {
    if (this.#connection === undefined) return;
    this.#waiting.set(subject, script);
    if (this.#runner === undefined) this.#runNext();
  }

  #runNext(): void {
    try {
      for (const [subject, script] of this.#waiting) {
        if (this.#connection === undefined) return;
        this.#waiting.delete(subject);
        this.#runner = new ScriptRunner(
          this.#connection,
          script(),
          (delayMs, fire) => this.services.env.timer(delayMs, fire),
          ANSWER_TIMEOUT_MS,
          (fault) => this.#drop(fault),
        );
        if (this.#runner.start() === undefined) return;
        this.#runner = undefined;
      }
    } catch (error) {
      this.#drop(error);
    }
  }

  #readable(): void {
    try {
      if (this.#runner === undefined) this.#connection?.receive();
      else if (this.#runner.readable() === undefined) return;
    } catch (error) {
      this.#drop(error);
      return;
    }
    this.#runner = undefined;
    this.#runNext();
  }

  // --- connections ---

  #adopt(fd: number): void {
    this.#progress = new Progress();
    this.#connection = new VhostUserConnection(fd);
    this.services.env.watch(fd, EPOLL.IN, () => this.#readable());
  }

  #disconnect(): void {
    this.#runner?.abandon();
    this.#runner = undefined;
    this.#waiting.clear();
    this.#channel?.close();
    this.#channel = undefined;
    const connection = this.#connection;
    this.#connection = undefined;
    if (this.#progress.started.size > 0) this.#lost = true;
    this.#progress = new Progress();
    if (connection === undefined) return;
    this.services.env.unwatch(connection.fd);
    connection.dispose();
    shutdownSocket(connection.fd); // main has the first connection open, too
    close(connection.fd);
  }

  /** The connection is of no use any more. What is no `BackendFault` is a bug of ours: told with its stack. */
  #drop(error: unknown): void {
    const { message, stack } = error as Error;
    const wasReady = this.#progress.ready;
    this.#disconnect();
    this.#configDone();
    if (this.#closed) return;
    if (!(error instanceof BackendFault)) this.#log("error", stack ?? message);
    else if (wasReady) this.#log("warn", `${message}; waiting for it to come back`);
    else this.#log("warn", message);
    this.#retryLater();
  }

  #retryLater(): void {
    const { listenFd } = this.description;
    if (listenFd >= 0) {
      this.services.env.rewatch(listenFd, EPOLL.IN);
      return;
    }
    const delayMs = this.#attempts++ < QUICK_ATTEMPTS ? RETRY_MS : SLOW_RETRY_MS;
    this.#cancelRetry = this.services.env.timer(delayMs, () => {
      this.#cancelRetry = undefined;
      let fd: number;
      try {
        fd = connectUnix(this.description.socket);
      } catch {
        this.#retryLater(); // nobody there yet
        return;
      }
      this.#meet(fd);
    });
  }

  #accept(): void {
    const { listenFd } = this.description;
    const fd = accept(listenFd);
    if (fd < 0) return;
    this.services.env.rewatch(listenFd, 0);
    this.#meet(fd);
  }

  #meet(fd: number): void {
    this.#adopt(fd);
    const connection = this.#connection!;
    this.#run("introduction", () => this.#introduce(connection));
  }

  #log(level: "error" | "warn" | "info", text: string): void {
    const { id, env } = this.services;
    env.post({
      kind: "log",
      level,
      key: `vhost-user:${id}`,
      text: `vhost-user back-end of "${id}": ${text}`,
    });
  }
}

/** The stretches in which `now` differs from `before`. */
function changes(before: Uint8Array, now: Uint8Array): { offset: number; bytes: Uint8Array }[] {
  const found: { offset: number; bytes: Uint8Array }[] = [];
  for (let at = 0; at < now.byteLength;) {
    let end = at;
    while (end < now.byteLength && now[end] !== before[end]) end++;
    if (end > at) found.push({ offset: at, bytes: now.slice(at, end) });
    at = end + 1;
  }
  return found;
}
