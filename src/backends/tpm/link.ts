/**
 * A swtpm in the I/O Worker: commands over the data channel, by events.
 *
 * L4, I/O Worker. A TPM command may take minutes (making keys), so nothing is waited for. When the TPM hangs up or talks
 * nonsense there is none any more: swtpm cannot be taken over again without losing the guest's session.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { EPOLL } from "@ffi/libc/epoll.ts";
import { close, duplicate } from "@ffi/libc/fd.ts";
import { read } from "@ffi/libc/io.ts";
import { SocketMessage } from "@ffi/libc/socket.ts";
import type { TpmPort } from "@vmm/bus/tpm_port.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import type { TpmDescription } from "./connect.ts";
import {
  controlMessage,
  MAX_TPM_BYTES,
  SwtpmCommand,
  TPM_HEADER_BYTES,
  tpmMessageBytes,
} from "./protocol.ts";

export class TpmLink implements TpmPort {
  readonly #controlFd: number;
  readonly #dataFd: number;
  readonly #message = new SocketMessage(64, 1);
  readonly #received = new Uint8Array(MAX_TPM_BYTES);
  readonly #discard = new Uint8Array(64);
  #length = 0;
  #answered: ((response: Uint8Array | undefined) => void) | undefined;
  #alive = true;

  constructor(
    description: TpmDescription,
    private readonly env: Pick<IoEnvironment, "watch" | "unwatch" | "post">,
  ) {
    this.#controlFd = duplicate(description.controlFd);
    this.#dataFd = duplicate(description.dataFd);
    env.watch(this.#dataFd, EPOLL.IN, () => this.#readable());
    env.watch(this.#controlFd, EPOLL.IN, () => this.#control());
  }

  execute(command: Uint8Array<ArrayBuffer>, answered: (response: Uint8Array | undefined) => void): void {
    this.#answered = answered;
    if (!this.#alive) return this.#finish(undefined);
    const sent = this.#message.send(this.#dataFd, command);
    if (sent !== command.byteLength) this.#lost("does not take commands");
  }

  cancel(): void {
    if (this.#alive && this.#answered !== undefined) {
      this.#message.send(this.#controlFd, controlMessage(SwtpmCommand.CANCEL_TPM_CMD));
    }
  }

  /** Lets go of the TPM. */
  close(): void {
    this.#unwatch();
    close(this.#controlFd);
    close(this.#dataFd);
  }

  #readable(): void {
    for (;;) {
      const wanted = this.#wanted();
      if (wanted < 0) return this.#lost("answered with nonsense");
      if (wanted === 0) {
        const response = this.#received.slice(0, this.#length);
        this.#length = 0;
        return this.#finish(response);
      }
      const chunk = this.#received.subarray(this.#length, this.#length + wanted);
      const count = read(this.#dataFd, chunk);
      if (count === -Errno.EAGAIN || count === -Errno.EINTR) return;
      if (count <= 0) return this.#lost("hung up");
      if (this.#answered === undefined) return this.#lost("sent something nobody asked for");
      this.#length += count;
    }
  }

  /** Bytes until the header, or then the response, is complete; −1 when it never can be. */
  #wanted(): number {
    if (this.#length < TPM_HEADER_BYTES) return TPM_HEADER_BYTES - this.#length;
    const total = tpmMessageBytes(this.#received);
    return total < TPM_HEADER_BYTES || total > MAX_TPM_BYTES ? -1 : total - this.#length;
  }

  /** Results of cancellations, which say nothing, or the end. */
  #control(): void {
    const count = read(this.#controlFd, this.#discard);
    if (count === -Errno.EAGAIN || count === -Errno.EINTR || count > 0) return;
    this.#lost("hung up");
  }

  #lost(how: string): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#unwatch();
    this.env.post({
      kind: "log",
      level: "error",
      key: "tpm",
      text: `The TPM ${how}: it is gone for this VM`,
    });
    this.#finish(undefined);
  }

  #finish(response: Uint8Array | undefined): void {
    const answered = this.#answered;
    this.#answered = undefined;
    answered?.(response);
  }

  #unwatch(): void {
    this.env.unwatch(this.#dataFd);
    this.env.unwatch(this.#controlFd);
  }
}
