/**
 * 16550-like serial port: registers over a block, and the input side that an I/O Worker feeds.
 *
 * L4: `Serial` runs in vCPU Workers, `SerialInput` in the I/O Worker. Output leaves at once, so the transmitter is always
 * empty. Received bytes wait in a ring; while there are any, data-ready stays set and the receive interrupt pending.
 * Source: PC16550D data sheet; spec/machine-model.md §2, §8 "serial".
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { ByteSink, InterruptLines, IoWake } from "@vmm/bus/ports.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Received bytes held for the guest. More wait in the host's descriptor. */
export const SERIAL_INPUT_BYTES = 4096;
/** In loopback the receiver takes no more than this. */
const LOOPBACK_BYTES = 64;

/** Offsets. With the divisor latch open (LCR bit 7) the first two are the divisor. */
const REG = {
  data: 0,
  interruptEnable: 1,
  interruptIdentification: 2,
  lineControl: 3,
  modemControl: 4,
  lineStatus: 5,
  modemStatus: 6,
  scratch: 7,
} as const;

const IER = { receive: 1, transmitterEmpty: 2, writable: 0x0f } as const;
/** Identification codes, highest priority first; the FIFO bits are always up. */
const IIR = { receive: 4, transmitterEmpty: 2, none: 1, fifos: 0xc0 } as const;
const LCR_DIVISOR_LATCH = 0x80;
const MCR_LOOPBACK = 0x10;
const LSR = { dataReady: 1, holdingEmpty: 0x20, idle: 0x40 } as const;

const RESET = {
  /** 8 bits, no parity, one stop bit. */
  lineControl: 0x03,
  /** Auxiliary output 2, which gates the interrupt on a PC. */
  modemControl: 0x08,
  /** Carrier, data set ready, clear to send. */
  modemStatus: 0xb0,
  /** 9600 baud. */
  divisor: 12,
} as const;

/** Registers, then the receive ring: `inputHead` is the next byte to read. */
export const SerialBlock = defineBlock("serial", {
  interruptEnable: "u32",
  transmitterPending: "u32",
  lineControl: "u32",
  modemControl: "u32",
  modemStatus: "u32",
  scratch: "u32",
  divisor: "u32",
  inputHead: "u32",
  inputCount: "u32",
  /** The I/O Worker holds bytes back and wants to be woken when there is room. */
  inputWaiting: "u32",
  input: { u8: SERIAL_INPUT_BYTES },
});
export type SerialState = BlockOf<typeof SerialBlock>;

/** A new block in reset state. */
export function createSerial(): SerialState {
  const state = SerialBlock.create();
  state.lineControl = RESET.lineControl;
  state.modemControl = RESET.modemControl;
  state.modemStatus = RESET.modemStatus;
  state.divisor = RESET.divisor;
  return state;
}

/** What the registers need around them. */
export interface SerialPorts {
  readonly lines: InterruptLines;
  readonly gsi: number;
  readonly output: ByteSink;
  readonly io: IoWake;
}

/** Eight byte-wide ports. */
export class Serial implements IoDevice {
  constructor(private readonly state: SerialState, private readonly ports: SerialPorts) {}

  read(offset: number, size: number): number {
    if (size !== 1) return 0;
    const { state } = this;
    const latch = (state.lineControl & LCR_DIVISOR_LATCH) !== 0;
    switch (offset) {
      case REG.data:
        return latch ? state.divisor & 0xff : this.#receive();
      case REG.interruptEnable:
        return latch ? state.divisor >> 8 : state.interruptEnable;
      case REG.interruptIdentification:
        return this.#identifyInterrupt();
      case REG.lineControl:
        return state.lineControl;
      case REG.modemControl:
        return state.modemControl;
      case REG.lineStatus:
        return LSR.holdingEmpty | LSR.idle | (state.inputCount > 0 ? LSR.dataReady : 0);
      case REG.modemStatus:
        return state.modemStatus;
      default:
        return state.scratch;
    }
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 1) return;
    const { state } = this;
    const latch = (state.lineControl & LCR_DIVISOR_LATCH) !== 0;
    switch (offset) {
      case REG.data:
        if (latch) state.divisor = (state.divisor & 0xff00) | value;
        else if ((state.modemControl & MCR_LOOPBACK) !== 0) this.#loopBack(value);
        else this.#transmit(value);
        return;
      case REG.interruptEnable:
        if (latch) state.divisor = (state.divisor & 0xff) | (value << 8);
        else this.#enableInterrupts(value & IER.writable);
        return;
      case REG.lineControl:
        state.lineControl = value;
        return;
      case REG.modemControl:
        this.#controlModem(value);
        return;
      case REG.scratch:
        state.scratch = value;
        return;
      default: // FIFO control and the status registers: nothing to set
        return;
    }
  }

  #receive(): number {
    const { state } = this;
    let value = 0;
    state.lock();
    if (state.inputCount > 0) {
      value = state.input[state.inputHead];
      state.inputHead = (state.inputHead + 1) % SERIAL_INPUT_BYTES;
      state.inputCount--;
    }
    const wake = state.inputWaiting !== 0 && state.inputCount <= SERIAL_INPUT_BYTES / 2;
    state.unlock();
    if (wake) this.#wakeInput();
    return value;
  }

  #controlModem(value: number): void {
    const { state } = this;
    state.lock();
    state.modemControl = value;
    // Input is held back during loopback.
    const wake = state.inputWaiting !== 0 && (value & MCR_LOOPBACK) === 0;
    state.unlock();
    if (wake) this.#wakeInput();
  }

  #wakeInput(): void {
    this.state.inputWaiting = 0;
    this.ports.io.wake();
  }

  #transmit(value: number): void {
    this.ports.output.put(value);
    if ((this.state.interruptEnable & IER.transmitterEmpty) !== 0) {
      this.state.transmitterPending = 1;
      this.ports.lines.pulse(this.ports.gsi);
    }
  }

  #loopBack(value: number): void {
    const { state } = this;
    state.lock();
    const taken = state.inputCount < LOOPBACK_BYTES;
    if (taken) appendInput(state, value);
    state.unlock();
    if (taken && (state.interruptEnable & IER.receive) !== 0) this.ports.lines.pulse(this.ports.gsi);
  }

  #enableInterrupts(value: number): void {
    const { state } = this;
    state.lock();
    const enabled = value & ~state.interruptEnable;
    state.interruptEnable = value;
    const pending = (enabled & IER.receive) !== 0 && state.inputCount > 0;
    state.unlock();
    // Bytes that came before the driver did must not wait for the next one.
    if (pending) this.ports.lines.pulse(this.ports.gsi);
  }

  #identifyInterrupt(): number {
    const { state } = this;
    state.lock();
    let cause: number = IIR.none;
    if ((state.interruptEnable & IER.receive) !== 0 && state.inputCount > 0) {
      cause = IIR.receive;
    } else if (state.transmitterPending !== 0) {
      cause = IIR.transmitterEmpty;
      state.transmitterPending = 0;
    }
    state.unlock();
    return cause | IIR.fifos;
  }
}

/** Appends one byte. The caller holds the lock and checked that there is room. */
function appendInput(state: SerialState, byte: number): void {
  state.input[(state.inputHead + state.inputCount) % SERIAL_INPUT_BYTES] = byte;
  state.inputCount++;
}

/** The receiving end that a character source of the I/O Worker feeds. */
export class SerialInput {
  constructor(
    private readonly state: SerialState,
    private readonly lines: InterruptLines,
    private readonly gsi: number,
  ) {}

  /** Bytes that can be pushed now. At 0 the guest's next reads wake the I/O Worker, which then asks again. */
  room(): number {
    const { state } = this;
    state.lock();
    const room = (state.modemControl & MCR_LOOPBACK) !== 0 ? 0 : SERIAL_INPUT_BYTES - state.inputCount;
    if (room === 0) state.inputWaiting = 1;
    state.unlock();
    return room;
  }

  /** Hands over the first `length` bytes, at most `room()`. */
  push(bytes: Uint8Array, length: number): void {
    const { state } = this;
    state.lock();
    for (let i = 0; i < length && state.inputCount < SERIAL_INPUT_BYTES; i++) appendInput(state, bytes[i]);
    state.unlock();
    if ((state.interruptEnable & IER.receive) !== 0) this.lines.pulse(this.gsi);
  }
}
