/**
 * Takes a swtpm over: control connection, data channel, initialisation.
 *
 * L4, main isolate, once per VM instance; never blocks the API. Source: swtpm_ioctls(3); order as the original's.
 */
import { Errno, errorName } from "@ffi/abi/errno.ts";
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, SocketMessage, socketPair } from "@ffi/libc/socket.ts";
import {
  ANSWER_BYTES,
  commandName,
  controlMessage,
  MAX_TPM_BYTES,
  NEEDED_CAPABILITIES,
  SwtpmCommand,
  TPM2_STARTUP,
  TPM_HEADER_BYTES,
  tpmMessageBytes,
} from "./protocol.ts";

/** A swtpm that cannot be used. */
export class TpmError extends Error {
  override readonly name = "TpmError";
}

/** What the I/O Worker gets: plain and cloneable. Main keeps the descriptors open until `release`. */
export interface TpmDescription {
  readonly controlFd: number;
  readonly dataFd: number;
}

/** A TPM that is ready. */
export interface ConnectedTpm {
  readonly description: TpmDescription;
  /** A measured launch took place. */
  readonly established: boolean;
  release(): void;
}

const ANSWER_TIMEOUT_MS = 10_000;
const SLICE_MS = 200;

/** How long the answer to a step may take, by the step's name: a command of the control channel, or TPM2_Startup. */
export type StepLimit = (step: string) => number;

/** Connects and starts the TPM. @param bufferBytes longest command or response @throws TpmError, OsError */
export async function connectTpm(
  path: string,
  bufferBytes: number,
  limitMs: StepLimit = () => ANSWER_TIMEOUT_MS,
): Promise<ConnectedTpm> {
  const controlFd = connectUnix(path);
  let [dataFd, peerFd] = [-1, -1];
  const release = () => {
    close(controlFd);
    close(dataFd);
  };
  try {
    [dataFd, peerFd] = socketPair();
    const control = new Channel(controlFd, limitMs);
    await ask(control, controlMessage(SwtpmCommand.SET_DATAFD), [peerFd]);
    checkCapabilities(await ask(control, controlMessage(SwtpmCommand.GET_CAPABILITY)));
    await ask(control, controlMessage(SwtpmCommand.STOP));
    const sizes = await ask(control, controlMessage(SwtpmCommand.SET_BUFFERSIZE, bufferBytes));
    if (sizes.getUint32(4) > bufferBytes) {
      throw new TpmError(`The TPM needs a buffer of ${sizes.getUint32(4)} bytes, there are ${bufferBytes}`);
    }
    await ask(control, controlMessage(SwtpmCommand.INIT, 0));
    await startUp(new Channel(dataFd, limitMs));
    const established = await ask(control, controlMessage(SwtpmCommand.GET_TPMESTABLISHED));
    return { description: { controlFd, dataFd }, established: established.getUint8(4) !== 0, release };
  } catch (error) {
    release();
    throw error;
  } finally {
    close(peerFd);
  }
}

function checkCapabilities(answer: DataView): void {
  const bits = answer.getUint32(4);
  const missing = NEEDED_CAPABILITIES.filter(([bit]) => (bits >>> bit & 1) === 0).map(([, name]) => name);
  if (missing.length > 0) throw new TpmError(`The TPM lacks ${missing.join(", ")}`);
}

/** One exchange on the control channel; all but capabilities begin with a result. */
async function ask(
  control: Channel,
  message: Uint8Array<ArrayBuffer>,
  fds: number[] = [],
): Promise<DataView> {
  const command = new DataView(message.buffer).getUint32(0);
  const name = commandName(command);
  control.send(message, fds, name);
  const answer = new DataView((await control.receive(ANSWER_BYTES[command], name)).buffer);
  const result = answer.getUint32(0);
  if (command !== SwtpmCommand.GET_CAPABILITY && result !== 0) {
    throw new TpmError(`The TPM refused ${name}: result 0x${result.toString(16)}`);
  }
  return answer;
}

async function startUp(data: Channel): Promise<void> {
  data.send(TPM2_STARTUP, [], "TPM2_Startup");
  const header = await data.receive(TPM_HEADER_BYTES, "TPM2_Startup");
  const rest = tpmMessageBytes(header) - TPM_HEADER_BYTES;
  if (rest < 0 || rest > MAX_TPM_BYTES) throw new TpmError("The TPM answered TPM2_Startup with nonsense");
  await data.receive(rest, "TPM2_Startup");
  // A code other than success (started already) is for the guest's own start-up to see.
}

/** A socket read in exact lengths, without blocking the isolate. */
class Channel {
  readonly #message = new SocketMessage(MAX_TPM_BYTES, 1);

  constructor(private readonly fd: number, private readonly limitMs: StepLimit) {}

  send(bytes: Uint8Array<ArrayBuffer>, fds: number[], what: string): void {
    const sent = this.#message.send(this.fd, bytes, fds);
    if (sent === bytes.byteLength) return;
    throw new TpmError(`Cannot send ${what}: ${sent < 0 ? errorName(-sent) : "the TPM does not take it"}`);
  }

  async receive(lengthBytes: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(lengthBytes);
    const epoll = new Epoll(1);
    try {
      epoll.add(this.fd, EPOLL.IN, 0);
      const timeoutMs = this.limitMs(what);
      const end = performance.now() + timeoutMs;
      for (let done = 0; done < lengthBytes;) {
        const count = this.#message.receive(this.fd, lengthBytes - done);
        this.#message.descriptors.forEach(close);
        if (count > 0) {
          bytes.set(this.#message.data.subarray(0, count), done);
          done += count;
          continue;
        }
        if (count !== -Errno.EAGAIN && count !== -Errno.EINTR) {
          throw new TpmError(`The TPM hung up instead of answering ${what}`);
        }
        if (performance.now() >= end) {
          throw new TpmError(`No answer to ${what} within ${timeoutMs / 1000} s`);
        }
        await epoll.waitPooled(Math.min(SLICE_MS, timeoutMs));
      }
      return bytes;
    } finally {
      epoll.close();
    }
  }
}
