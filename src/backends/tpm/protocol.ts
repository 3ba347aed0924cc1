/**
 * The control channel of swtpm: numbers and messages. All fields are big-endian.
 *
 * L4, pure. Source: swtpm include/swtpm/tpm_ioctl.h, swtpm_ioctls(3).
 */

/** Commands. */
export const SwtpmCommand = {
  GET_CAPABILITY: 1,
  INIT: 2,
  GET_TPMESTABLISHED: 4,
  CANCEL_TPM_CMD: 9,
  STOP: 14,
  SET_DATAFD: 16,
  SET_BUFFERSIZE: 17,
} as const;

/** Capability bits of what is used here, with the command's name. */
export const NEEDED_CAPABILITIES: readonly [bit: number, name: string][] = [
  [0, "INIT"],
  [2, "GET_TPMESTABLISHED"],
  [5, "CANCEL_TPM_CMD"],
  [10, "STOP"],
  [12, "SET_DATAFD"],
  [13, "SET_BUFFERSIZE"],
];

/** Length of each command's answer. */
export const ANSWER_BYTES: Readonly<Record<number, number>> = {
  [SwtpmCommand.GET_CAPABILITY]: 8,
  [SwtpmCommand.INIT]: 4,
  [SwtpmCommand.GET_TPMESTABLISHED]: 8,
  [SwtpmCommand.CANCEL_TPM_CMD]: 4,
  [SwtpmCommand.STOP]: 4,
  [SwtpmCommand.SET_DATAFD]: 4,
  [SwtpmCommand.SET_BUFFERSIZE]: 16,
};

/** A command with its 32-bit arguments. */
export function controlMessage(command: number, ...words: number[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(4 + 4 * words.length));
  [command, ...words].forEach((word, i) => view.setUint32(4 * i, word));
  return new Uint8Array(view.buffer);
}

/** Name of a command for messages to people. */
export function commandName(command: number): string {
  return Object.entries(SwtpmCommand).find(([, value]) => value === command)?.[0] ?? `command ${command}`;
}

/** Header of TPM commands and responses: tag, size, code. */
export const TPM_HEADER_BYTES = 10;
/** Longest message on the data channel. */
export const MAX_TPM_BYTES = 4096;

/** Length of the message that begins with `header`, from its size field. */
export function tpmMessageBytes(header: Uint8Array): number {
  return new DataView(header.buffer, header.byteOffset).getUint32(2);
}

/** TPM2_Startup(TPM_SU_CLEAR). */
export const TPM2_STARTUP: Uint8Array<ArrayBuffer> = Uint8Array.of(
  ...[0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0],
);
