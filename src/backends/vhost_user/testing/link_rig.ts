/**
 * A link with everything around it faked but the sockets.
 *
 * L4, tests only.
 */
import { close, eventfd, memfd } from "@ffi/libc/fd.ts";
import { signalEvent } from "@ffi/libc/io.ts";
import { canRead } from "@ffi/libc/poll.ts";
import { accept, listenUnix, socketPair } from "@ffi/libc/socket.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import type { ServedDevice } from "@vmm/virtio/ports/ring_backend.ts";
import type { ConfigOverride } from "../description.ts";
import { VhostUserLink } from "../link.ts";
import type { Wishes } from "../negotiation.ts";
import { FakeBackend, type FakeOptions } from "./fake_backend.ts";

/** What a test decides. */
export interface RigOptions extends FakeOptions {
  readonly acceptedFeatures?: bigint;
  readonly wishesConfig?: Wishes["config"];
  readonly guestConfig?: Uint8Array;
  readonly overrides?: readonly ConfigOverride[];
  /** We listen, the back-end connects. */
  readonly server?: boolean;
}

interface Watch {
  events: number;
  readonly ready: (events: number) => void;
}

const FEATURES = 1n << 32n | 0xffn;
const EPOLLIN = 1;

/** Link, environment, one ring, and the back-end of the moment. */
export class LinkRig implements Disposable {
  readonly directory: string = Deno.makeTempDirSync({ prefix: "nephos-link-" });
  readonly socket: string = `${this.directory}/s`;
  readonly log: string[] = [];
  readonly watches = new Map<number, Watch>();
  readonly config: Uint8Array;
  readonly link: VhostUserLink;
  backend: FakeBackend;
  interrupts = 0;
  configChanges = 0;
  /** Where a lost ring would go on. */
  usedIndex = 5;
  readonly #timers = new Set<{ fire: () => void; delayMs: number }>();
  readonly #fds: number[] = [];
  readonly #listenFd: number;

  constructor(readonly options: RigOptions = {}) {
    const [near, far] = socketPair();
    this.#listenFd = listenUnix(this.socket);
    this.#fds.push(near, this.#listenFd, eventfd(), memfd("ram"));
    this.config = options.guestConfig ?? new Uint8Array(0);
    const { protocolFeatures = 0n, features = FEATURES } = options;
    const own = protocolFeatures === 0n ? 0n : 1n << 30n;
    const fullOptions = this.#fakeOptions = { ...options, features };
    this.backend = new FakeBackend(far, fullOptions);
    const env: IoEnvironment = {
      watch: (fd, events, ready) => void this.watches.set(fd, { events, ready }),
      rewatch: (fd, events) => void (this.watches.get(fd)!.events = events),
      unwatch: (fd) => void this.watches.delete(fd),
      timer: (delayMs, fire) => {
        const timer = { delayMs, fire };
        this.#timers.add(timer);
        return () => void this.#timers.delete(timer);
      },
      post: (event) => void this.log.push(String(event.text)),
    };
    this.link = new VhostUserLink({
      socket: this.socket,
      fd: near,
      listenFd: options.server ? this.#listenFd : -1,
      wishes: {
        features: FEATURES | 1n << 30n,
        protocolFeatures,
        queueCount: 1,
        defaultQueueCount: 1,
        config: options.wishesConfig ?? "none",
      },
      agreement: { features: features & FEATURES, transportFeatures: own, protocolFeatures },
      followsConfig: options.wishesConfig !== undefined,
      overrides: options.overrides ?? [],
    }, {
      id: "_d",
      env,
      kickFds: [this.#fds[2]],
      config: this.config,
      regions: () => [
        { gpa: 0, sizeBytes: 4096, hostAddress: 0x7000_0000n, fd: this.#fds[3], fileOffset: 0 },
      ],
    });
  }
  readonly #fakeOptions: FakeOptions;

  /** The device with one ring of 16 entries. */
  get device(): ServedDevice {
    return {
      features: this.options.acceptedFeatures ?? 1n << 32n | 3n,
      rings: [{
        index: 0,
        size: 16,
        descriptors: 0x7000_0000,
        driver: 0x7000_0100,
        device: 0x7000_0200,
        position: (lost) => lost ? this.usedIndex : 0,
      }],
      interrupt: () => void this.interrupts++,
      configChanged: () => void this.configChanges++,
    };
  }

  /** Lets both sides act until neither has anything to do. */
  settle(): void {
    for (let busy = true; busy;) {
      busy = this.backend.serve();
      for (const [fd, watch] of [...this.watches]) {
        if ((watch.events & EPOLLIN) === 0 || !canRead(fd) || !this.watches.has(fd)) continue;
        watch.ready(EPOLLIN);
        busy = true;
      }
    }
  }

  /** The delays of timers that run. */
  get timers(): number[] {
    return [...this.#timers].map((timer) => timer.delayMs);
  }

  /** Time goes by: every timer fires. */
  elapse(): void {
    for (const timer of [...this.#timers]) {
      if (this.#timers.delete(timer)) timer.fire();
    }
  }

  /** The back-end dies; with `options` another one answers the next connection. */
  replace(options: Partial<FakeOptions> = {}): void {
    this.backend.close();
    this.settleFrontEnd();
    this.elapse();
    this.backend = new FakeBackend(accept(this.#listenFd), { ...this.#fakeOptions, ...options });
  }

  /** Lets the front-end see what happened, with nobody at the other end. */
  settleFrontEnd(): void {
    for (const [fd, watch] of [...this.watches]) if (canRead(fd)) watch.ready(EPOLLIN);
  }

  /** The back-end raises the ring's interrupt. */
  call(): void {
    signalEvent(this.backend.descriptors.get("SET_VRING_CALL")![0]);
  }

  [Symbol.dispose](): void {
    this.link.close();
    this.backend.close();
    this.#fds.forEach(close);
    Deno.removeSync(this.directory, { recursive: true });
  }
}
