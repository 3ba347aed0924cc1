/**
 * A TPM as the register interface's service needs it.
 *
 * L3, I/O Worker. The back-end implements it, the device uses it, and neither imports the other.
 */

/** Carries out commands one at a time. No method throws or waits. */
export interface TpmPort {
  /** Starts a command; `answered` gets the response, or undefined when there is no TPM any more. */
  execute(command: Uint8Array<ArrayBuffer>, answered: (response: Uint8Array | undefined) => void): void;
  /** Asks the TPM to give up the command it works on; it answers all the same. */
  cancel(): void;
}
