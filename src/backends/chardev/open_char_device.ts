/**
 * The I/O Worker's side of a character back-end, made from main's descriptor.
 *
 * L4, I/O Worker. Source: spec/machine-model.md §8 "console modes".
 */
import type { CharDevice, CharInput, WindowSize } from "@vmm/bus/char_device.ts";
import { accept, shutdownSocket } from "@ffi/libc/socket.ts";
import { close } from "@ffi/libc/fd.ts";
import { EPOLL } from "@ffi/libc/epoll.ts";
import { Errno } from "@ffi/abi/errno.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import { ByteOutput } from "./byte_output.ts";
import { ChardevBlock, NO_WRITER } from "./chardev_block.ts";
import { type ChardevDescriptor, chardevWindowSize } from "./open_chardev.ts";
import { hasPeer } from "@ffi/libc/poll.ts";
import { type LinkEnvironment, StreamLink } from "./stream_link.ts";

/** How often a pty without a client looks for one. */
const PTY_POLL_MS = 500;
/** How often the size of a pty with a client is compared. */
const SIZE_POLL_MS = 1000;
/** Rest after a failed accept (no descriptors left, say): the connection waits. */
const ACCEPT_RETRY_MS = 1000;

const NO_WAKE = { wake() {} };

/** What the I/O Worker lends a back-end. */
export type CharEnvironment = LinkEnvironment & Pick<IoEnvironment, "timer">;

/** A back-end in the I/O Worker. */
export interface OpenCharDevice extends CharDevice {
  /** A vCPU woke the I/O Worker: there may be output to write or room for input. */
  woken(): void;
  /** Forgets watches and timers and closes a client's connection; the descriptors stay main's. */
  stop(): void;
}

/** Starts a back-end. */
export function openCharDevice(descriptor: ChardevDescriptor, env: CharEnvironment): OpenCharDevice {
  switch (descriptor.kind) {
    case "pty":
      return new PtyDevice(descriptor, env);
    case "socket":
      return new SocketDevice(descriptor, env);
    case "null":
    case "tty":
    case "file":
      return new FixedDevice(descriptor, env);
  }
}

abstract class LinkedDevice implements OpenCharDevice {
  protected readonly output: ByteOutput;
  protected link: StreamLink | undefined;
  protected input: CharInput | undefined;
  protected resized: (() => void) | undefined;

  constructor(protected readonly descriptor: ChardevDescriptor, protected readonly env: CharEnvironment) {
    // This Worker needs no waking: `write` below looks after what is left.
    this.output = new ByteOutput(ChardevBlock.attach(descriptor.block), NO_WAKE, descriptor.blocking);
  }

  write(bytes: Uint8Array<ArrayBuffer>, length: number): void {
    this.output.write(bytes, length);
    if (this.output.state.count > 0) this.link?.refresh();
  }

  setInput(input: CharInput | undefined): void {
    this.input = input;
    this.link?.setInput(input);
  }

  resumeInput(): void {
    this.link?.resumeInput();
  }

  woken(): void {
    this.link?.refresh();
    this.link?.resumeInput();
  }

  windowSize(): WindowSize | undefined {
    return chardevWindowSize(this.descriptor);
  }

  onResize(changed: (() => void) | undefined): void {
    this.resized = changed;
  }

  stop(): void {
    this.link?.close();
    this.link = undefined;
  }

  protected connect(readFd: number, writeFd: number, ended: () => void): void {
    const parts = { readFd, writeFd, blocking: this.descriptor.blocking };
    this.link = new StreamLink(this.env, this.output, parts, ended);
    this.link.setInput(this.input);
  }
}

/** A terminal, file or nothing at all: there from the beginning, and never replaced. */
class FixedDevice extends LinkedDevice {
  constructor(descriptor: ChardevDescriptor, env: CharEnvironment) {
    super(descriptor, env);
    if (descriptor.kind !== "null") this.connect(descriptor.readFd, descriptor.writeFd, () => {});
  }

  /** Output stays possible: a terminal needs no I/O Worker for it. */
  override stop(): void {
    super.stop();
    const { writeFd } = this.descriptor;
    this.output.setWriter(writeFd < 0 ? NO_WRITER : writeFd);
  }
}

/** A pseudo-terminal: somebody has its slave open, or nobody has. */
class PtyDevice extends LinkedDevice {
  #cancel: () => void = () => {};
  #size: WindowSize | undefined;

  constructor(descriptor: ChardevDescriptor, env: CharEnvironment) {
    super(descriptor, env);
    this.#look();
  }

  override woken(): void {
    // A vCPU that met the hang-up first took the writer away; the event may never come if the slave was opened again.
    if (this.link !== undefined && this.output.state.writer === NO_WRITER) this.#lost();
    else super.woken();
  }

  override write(bytes: Uint8Array<ArrayBuffer>, length: number): void {
    super.write(bytes, length);
    if (this.link !== undefined && this.output.state.writer === NO_WRITER) this.#lost();
  }

  override stop(): void {
    this.#cancel();
    super.stop();
  }

  /** A hang-up cannot be waited for the end of: epoll would report it all the time. */
  #look(): void {
    const { writeFd } = this.descriptor;
    if (this.link === undefined && hasPeer(writeFd)) this.connect(writeFd, writeFd, () => this.#lost());
    if (this.link !== undefined) this.#compareSize();
    const delayMs = this.link === undefined ? PTY_POLL_MS : SIZE_POLL_MS;
    // With a client, only a console that passes the size on needs to look.
    if (this.link === undefined || this.resized !== undefined) {
      this.#cancel = this.env.timer(delayMs, () => this.#look());
    }
  }

  #lost(): void {
    this.link?.close();
    this.link = undefined;
    this.#cancel();
    this.#cancel = this.env.timer(PTY_POLL_MS, () => this.#look());
  }

  override onResize(changed: (() => void) | undefined): void {
    super.onResize(changed);
    this.#size = this.windowSize();
    this.#cancel();
    this.#look();
  }

  #compareSize(): void {
    const size = this.windowSize();
    if (size?.columns === this.#size?.columns && size?.rows === this.#size?.rows) return;
    this.#size = size;
    this.resized?.();
  }
}

/** A listening socket with one client at a time: a new one takes the old one's place. */
class SocketDevice extends LinkedDevice {
  #clientFd = -1;
  #cancel: () => void = () => {};

  constructor(descriptor: ChardevDescriptor, env: CharEnvironment) {
    super(descriptor, env);
    env.watch(descriptor.listenFd, EPOLL.IN, () => this.#accept());
  }

  override stop(): void {
    this.#cancel();
    this.env.unwatch(this.descriptor.listenFd);
    this.#disconnect();
  }

  #accept(): void {
    const { listenFd } = this.descriptor;
    for (;;) {
      const fd = accept(listenFd);
      if (fd === -Errno.EAGAIN) return;
      if (fd === -Errno.EINTR || fd === -ECONNABORTED) continue;
      if (fd < 0) {
        this.env.rewatch(listenFd, 0);
        this.#cancel = this.env.timer(ACCEPT_RETRY_MS, () => this.env.rewatch(listenFd, EPOLL.IN));
        return;
      }
      this.#disconnect();
      this.#clientFd = fd;
      this.connect(fd, fd, () => this.#disconnect());
    }
  }

  #disconnect(): void {
    this.link?.close();
    this.link = undefined;
    if (this.#clientFd < 0) return;
    shutdownSocket(this.#clientFd);
    close(this.#clientFd);
    this.#clientFd = -1;
  }
}

/** The client was gone before it was accepted. */
const ECONNABORTED = 103;
