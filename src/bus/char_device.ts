/**
 * Character devices between a host endpoint (terminal, socket, file) and a guest's console or serial port.
 *
 * L3, I/O Worker. Back-ends implement `CharDevice`, device front-ends implement `CharInput`, and neither imports the other.
 */

/** The guest's receiving end. */
export interface CharInput {
  /** Bytes it takes now. At 0 it is the front-end's duty to have `resumeInput` called when there is room again. */
  room(): number;
  /** Hands over the first `length` bytes, at most `room()`. `bytes` is reused afterwards. */
  push(bytes: Uint8Array, length: number): void;
}

/** A terminal's size in characters. */
export interface WindowSize {
  readonly columns: number;
  readonly rows: number;
}

/** The host's end. No method throws or waits. */
export interface CharDevice {
  /** Sends the first `length` bytes, or keeps them until somebody listens. */
  write(bytes: Uint8Array<ArrayBuffer>, length: number): void;
  /** Starts reading for `input`; undefined stops, and what arrives waits in the host. */
  setInput(input: CharInput | undefined): void;
  /** There is room again. Cheap when nothing was held back. */
  resumeInput(): void;
  /** Size of the terminal, or undefined when there is none. */
  windowSize(): WindowSize | undefined;
  /** Calls `changed` when the size may have changed; undefined stops. */
  onResize(changed: (() => void) | undefined): void;
}
