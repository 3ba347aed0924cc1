/**
 * Where a vCPU's printed bytes go.
 *
 * L5, vCPU Worker.
 */
import { write } from "@ffi/libc/io.ts";
import type { ByteSink } from "@vmm/bus/ports.ts";
import type { VcpuOutputs } from "./vcpu_machine.ts";

export interface VcpuOutputDescription {
  readonly serialFd: number;
}

class FdSink implements ByteSink {
  readonly #byte = new Uint8Array(1);
  constructor(private readonly fd: number) {}
  put(byte: number): void {
    this.#byte[0] = byte;
    write(this.fd, this.#byte, 1);
  }
}

export function createVcpuOutputs(description: VcpuOutputDescription, _wake: number): VcpuOutputs {
  const sink = new FdSink(description.serialFd);
  return { serial: sink, debugConsole: sink, firmwareDebug: sink };
}
