/**
 * TPM 2.0 command response buffer: locality, state and command registers over a shared block, and the service behind them.
 *
 * L4: `Crb` runs in vCPU Workers, `CrbService` in the I/O Worker. A command is carried out while the guest runs on and
 * polls the start register. Source: TCG PC Client Platform TPM Profile 1.05 §6.5.3; spec/machine-model.md §8; register
 * values as the original's.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { IoWake } from "@vmm/bus/ports.ts";
import type { TpmPort } from "@vmm/bus/tpm_port.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Register offsets of locality 0. */
const Reg = {
  locState: 0x00,
  locControl: 0x08,
  locStatus: 0x0c,
  interfaceId: 0x30,
  interfaceVendor: 0x34,
  controlRequest: 0x40,
  controlStatus: 0x44,
  controlCancel: 0x48,
  controlStart: 0x4c,
  commandSize: 0x58,
  commandAddressLow: 0x5c,
  responseSize: 0x64,
  responseAddressLow: 0x68,
  data: 0x80,
} as const;

const CRB_SIZE_BYTES = 0x1000;
/** Longest command and longest response. */
export const CRB_DATA_BYTES: number = CRB_SIZE_BYTES - Reg.data;

const LOC_STATE_ESTABLISHED = 1 << 0;
const LOC_STATE_ASSIGNED = 1 << 1;
const LOC_STATE_VALID = 1 << 7;
const LOC_CONTROL_REQUEST = 1;
const LOC_CONTROL_RELINQUISH = 2;
const LOC_STATUS_GRANTED = 1 << 0;
const REQUEST_COMMAND_READY = 1;
const REQUEST_GO_IDLE = 2;
const STATUS_FATAL = 1 << 0;
const STATUS_IDLE = 1 << 1;
/** CRB interface, version 1, transfers of up to 64 bytes, CRB selected and the only one. */
const INTERFACE_ID = 0x0002_5811;
const VENDOR_ID = 0x1014;

/** Values of `start`: vCPU Workers move idle → posted, the I/O Worker posted → taken → idle. */
const Start = { idle: 0, posted: 1, taken: 2 } as const;

/** Response header: tag, size, code. */
const HEADER_BYTES = 10;
const SIZE_OFFSET = 2;
const TPM_ST_NO_SESSIONS = 0x8001;
const TPM_RC_FAILURE = 0x101;
const TPM_RC_COMMAND_SIZE = 0x142;

export const CrbBlock = defineBlock("tpm-crb", {
  /** 1: a measured launch took place. */
  established: "u32",
  located: "u32",
  idle: "u32",
  /** 1: the TPM is gone. */
  failed: "u32",
  start: "u32",
  cancel: "u32",
  commandSize: "u32",
  data: { u8: CRB_DATA_BYTES },
});
export type CrbState = BlockOf<typeof CrbBlock>;

const START = CrbBlock.index.start;
const CANCEL = CrbBlock.index.cancel;

/** A block in reset state. */
export function createCrb(): CrbState {
  const state = CrbBlock.create();
  state.idle = 1;
  state.commandSize = CRB_DATA_BYTES;
  return state;
}

/** The register window. */
export class Crb implements IoDevice {
  /** @param gpa where the window lies: the registers tell */
  constructor(
    private readonly state: CrbState,
    private readonly gpa: number,
    private readonly wake: IoWake,
  ) {}

  read(offset: number, size: 1 | 2 | 4): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value << 8 | this.#byte(offset + i);
    return value >>> 0;
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    const { state } = this;
    if (offset >= Reg.data) {
      for (let i = 0; i < size && offset + i < CRB_SIZE_BYTES; i++) {
        state.data[offset + i - Reg.data] = value >>> (8 * i);
      }
      return;
    }
    switch (offset) {
      case Reg.locControl:
        if (value === LOC_CONTROL_REQUEST) state.located = 1;
        else if (value === LOC_CONTROL_RELINQUISH) state.located = 0;
        return;
      case Reg.controlRequest:
        if (value === REQUEST_COMMAND_READY) state.idle = 0;
        else if (value === REQUEST_GO_IDLE) state.idle = 1;
        return;
      case Reg.controlCancel:
        if (value !== 1 || Atomics.load(state.words, START) === Start.idle) return;
        Atomics.store(state.words, CANCEL, 1);
        this.wake.wake();
        return;
      case Reg.controlStart:
        if (value !== 1 || state.located === 0) return;
        if (Atomics.compareExchange(state.words, START, Start.idle, Start.posted) === Start.idle) {
          this.wake.wake();
        }
        return;
      case Reg.commandSize:
        state.commandSize = value;
    }
  }

  #byte(offset: number): number {
    if (offset >= CRB_SIZE_BYTES) return 0;
    return offset >= Reg.data
      ? this.state.data[offset - Reg.data]
      : this.#register(offset & ~3) >>> (8 * (offset & 3)) & 0xff;
  }

  #register(offset: number): number {
    const { state } = this;
    switch (offset) {
      case Reg.locState:
        return LOC_STATE_VALID | (state.located !== 0 ? LOC_STATE_ASSIGNED : 0) |
          (state.established !== 0 ? LOC_STATE_ESTABLISHED : 0);
      case Reg.locStatus:
        return state.located !== 0 ? LOC_STATUS_GRANTED : 0;
      case Reg.interfaceId:
        return INTERFACE_ID;
      case Reg.interfaceVendor:
        return VENDOR_ID;
      case Reg.controlStatus:
        return (state.idle !== 0 ? STATUS_IDLE : 0) | (state.failed !== 0 ? STATUS_FATAL : 0);
      case Reg.controlStart:
        return Atomics.load(state.words, START) === Start.idle ? 0 : 1;
      case Reg.commandSize:
        return state.commandSize;
      case Reg.responseSize:
        return CRB_DATA_BYTES;
      case Reg.commandAddressLow:
      case Reg.responseAddressLow:
        return this.gpa + Reg.data;
      default:
        return 0;
    }
  }
}

/** Carries out what the guest started. */
export class CrbService {
  #paused = false;
  /** A response that came while nothing may change. */
  #held: Uint8Array | undefined;

  constructor(private readonly state: CrbState, private readonly tpm: TpmPort) {}

  /** vCPUs may have left something. Cheap when they have not. */
  poll(): void {
    if (this.#paused) return;
    const { words } = this.state;
    if (Atomics.compareExchange(words, START, Start.posted, Start.taken) === Start.posted) this.#execute();
    if (Atomics.exchange(words, CANCEL, 0) !== 0) this.tpm.cancel();
  }

  /** Nothing changes in the block until `resume`. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.#answer(held);
    this.poll();
  }

  #execute(): void {
    const header = this.state.data.slice(0, HEADER_BYTES); // the guest may change its buffer meanwhile
    const sizeBytes = new DataView(header.buffer).getUint32(SIZE_OFFSET);
    if (sizeBytes < HEADER_BYTES || sizeBytes > CRB_DATA_BYTES) {
      this.#answer(errorResponse(TPM_RC_COMMAND_SIZE));
      return;
    }
    const command = new Uint8Array(sizeBytes);
    command.set(this.state.data.subarray(0, sizeBytes));
    command.set(header);
    this.tpm.execute(command, (response) => {
      if (response === undefined) this.state.failed = 1;
      const fits = response !== undefined && response.byteLength <= CRB_DATA_BYTES;
      this.#answer(fits ? response : errorResponse(TPM_RC_FAILURE));
    });
  }

  #answer(response: Uint8Array): void {
    if (this.#paused) {
      this.#held = response;
      return;
    }
    const { data, words } = this.state;
    data.fill(0);
    data.set(response);
    Atomics.store(words, CANCEL, 0);
    Atomics.store(words, START, Start.idle);
  }
}

function errorResponse(code: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES));
  view.setUint16(0, TPM_ST_NO_SESSIONS);
  view.setUint32(SIZE_OFFSET, HEADER_BYTES);
  view.setUint32(6, code);
  return new Uint8Array(view.buffer);
}
